package main

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ballast-lb/ballast/internal/announce"
	"github.com/ballast-lb/ballast/internal/bfd"
	"github.com/ballast-lb/ballast/internal/bgp"
	"github.com/ballast-lb/ballast/internal/layer2"
	"github.com/ballast-lb/ballast/internal/membership"
)

// counts are where the speaker counts.
type counts struct {
	layer2  func() []layer2.Stats
	peers   func() []bgp.PeerState
	stats   func() []bgp.PeerStats
	bfd     func() []bfd.Status
	members func() membership.Stats
	owns    func() int64
	relay   func() announce.RelayCounts
	// state returns what the engine counts, and false if it has not begun or does not answer in time.
	state   func() (announce.Counts, bool)
	planned func() int64
}

// countsTimeout bounds how long a scrape waits for the engine.
const countsTimeout = time.Second

// collector reads what the speaker counts when it is scraped; it keeps no state.
type collector struct {
	counts

	perInterface []interfaceMetric
	perNode      []nodeMetric
	claims       *prometheus.Desc
	relayed      []relayMetric
	ofState      []stateMetric
	quorum       *prometheus.Desc
	answers      *prometheus.Desc
	plans        *prometheus.Desc
	perPeer      []peerMetric
	counters     []peerCounter
	advertised   *prometheus.Desc
	perBFD       []bfdMetric
}

// interfaceMetric is something that layer2 counts on each interface.
type interfaceMetric struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	value func(layer2.Stats) uint64
}

// nodeMetric is something that the membership counts.
type nodeMetric struct {
	desc  *prometheus.Desc
	value func(membership.Stats) uint64
}

// relayMetric is something that is counted of what this node passes on.
type relayMetric struct {
	desc  *prometheus.Desc
	value func(announce.RelayCounts) uint64
}

// stateMetric is something that the engine counts.
type stateMetric struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	value func(announce.Counts) uint64
}

// peerMetric is something that is known of each BGP session.
type peerMetric struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	value func(bgp.PeerState) float64
}

// peerCounter is something that gobgp counts on each BGP session.
type peerCounter struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	value func(bgp.PeerStats) uint64
}

// bfdMetric is something that is known of each BFD session.
type bfdMetric struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	value func(bfd.Status) float64
}

func (s *speaker) metrics() prometheus.Collector {
	return newCollector(counts{
		layer2: s.layer2.Stats, peers: s.bgp.Peers, stats: s.bgp.Stats, bfd: s.bfd.Sessions,
		members: s.gossip.stats, owns: s.owns.Load, relay: s.gossip.relay.counts, state: s.counted,
		planned: s.planned.Load,
	})
}

// counted asks the engine for what it counts.
func (s *speaker) counted() (counts announce.Counts, ok bool) {
	ctx, cancel := context.WithTimeout(context.Background(), countsTimeout)
	defer cancel()
	err := s.query(ctx, func(state *announce.State) { counts = state.Counts(time.Now()) })
	return counts, err == nil
}

func newCollector(from counts) *collector {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("ballast_"+name, help, labels, nil)
	}
	counted := func(name, help string, value func(layer2.Stats) uint64) interfaceMetric {
		return interfaceMetric{desc("layer2_"+name, help, "interface"), prometheus.CounterValue, value}
	}
	current := func(name, help string, value func(layer2.Stats) uint64) interfaceMetric {
		return interfaceMetric{desc("layer2_"+name, help, "interface"), prometheus.GaugeValue, value}
	}
	member := func(name, help string, value func(membership.Stats) uint64) nodeMetric {
		return nodeMetric{desc("membership_"+name, help), value}
	}
	return &collector{
		counts: from,
		perInterface: []interfaceMetric{
			counted("requests_total", "ARP requests and neighbor solicitations for addresses that this node answers for.", func(s layer2.Stats) uint64 { return s.Requests }),
			counted("replies_total", "ARP replies and solicited neighbor advertisements sent.", func(s layer2.Stats) uint64 { return s.Replies }),
			counted("gratuitous_total", "Gratuitous ARP packets and unsolicited neighbor advertisements sent.", func(s layer2.Stats) uint64 { return s.Announcements }),
			counted("errors_total", "Failures to open, join, read or write an interface's sockets.", func(s layer2.Stats) uint64 { return s.Errors }),
			counted("conflicts_total", "Times that another host was newly found to use an address.", func(s layer2.Stats) uint64 { return s.Conflicts }),
			counted("takeovers_total", "Times that this node began to announce an address as its owner.", func(s layer2.Stats) uint64 { return s.Takeovers }),
			current("addresses", "Addresses that this node answers for.", func(s layer2.Stats) uint64 { return uint64(s.Addresses) }),
			current("deputized_addresses", "Addresses that this node answers for in place of a node whose speaker is away.", func(s layer2.Stats) uint64 { return uint64(s.Deputized) }),
		},
		perNode: []nodeMetric{
			member("heartbeats_sent_total", "Heartbeats sent to other speakers.", func(s membership.Stats) uint64 { return s.Sent }),
			member("heartbeats_received_total", "Heartbeats received from other speakers.", func(s membership.Stats) uint64 { return s.Received }),
			member("packets_rejected_total", "Packets at the heartbeat port that were malformed or not authentic.", func(s membership.Stats) uint64 { return s.Rejected }),
			member("questions_total", "Times that the LAN was asked whether a node lives.", func(s membership.Stats) uint64 { return s.Asked }),
			member("vetoes_sent_total", "Times that another speaker missed a node, and this node told it that it hears it.",
				func(s membership.Stats) uint64 { return s.Vetoes }),
			member("vetoes_received_total", "Times that this node missed another, and was told that it is heard.",
				func(s membership.Stats) uint64 { return s.Vetoed }),
			member("deaths_total", "Times that another node was found dead, or its speaker left.", func(s membership.Stats) uint64 { return s.Deaths }),
		},
		claims: desc("layer2_claims", "Units of addresses that this node has claimed."),
		relayed: []relayMetric{
			{
				desc("membership_relayed_total",
					"Claims and reports of others that this node passed on."),
				func(r announce.RelayCounts) uint64 { return r.Passed },
			},
			{
				desc("membership_relay_dropped_total",
					"Claims and reports of others that were too many to be passed on."),
				func(r announce.RelayCounts) uint64 { return r.Dropped },
			},
		},
		ofState: []stateMetric{
			{
				desc("layer2_disputed_units",
					"Units of this node's that another answers for, or has claimed in vain within the last minute."),
				prometheus.GaugeValue, func(c announce.Counts) uint64 { return uint64(c.Disputed) },
			},
			{
				desc("layer2_held_down_units",
					"Units that this node has lost to a live rival, and does not claim for the moment."),
				prometheus.GaugeValue, func(c announce.Counts) uint64 { return uint64(c.HeldDown) },
			},
			{
				desc("layer2_claims_contested_total",
					"Claims of others that this node answered with a better one."),
				prometheus.CounterValue, func(c announce.Counts) uint64 { return c.Contested },
			},
			{
				desc("layer2_claims_lost_total",
					"Times that another claimed a unit that this node could have gone on with; each begins a hold-down."),
				prometheus.CounterValue, func(c announce.Counts) uint64 { return c.Lost },
			},
			{
				desc("membership_missed_claims_total",
					"Claims that had not reached this node, until it compared what it knows with another."),
				prometheus.CounterValue, func(c announce.Counts) uint64 { return c.Mended },
			},
		},
		quorum: desc("layer2_quorum",
			"1 if this node hears most of the nodes on the network, else 0; only where a claim depended on it within the last minute.", "interface"),
		answers: desc("membership_answers_total",
			"Questions to the LAN whether a node lives, by what became of them.", "result"),
		plans: desc("plans_total", "Plans of units of addresses: each says who announces one unit, and how."),
		perPeer: []peerMetric{
			{desc("bgp_session_up", "1 if the BGP session is established, else 0.", "peer"), prometheus.GaugeValue, func(p bgp.PeerState) float64 { return truth(p.State == bgp.Established) }},
			{desc("bgp_session_since_timestamp_seconds", "When the BGP session entered its state.", "peer"), prometheus.GaugeValue, func(p bgp.PeerState) float64 { return float64(p.Since.Unix()) }},
			{desc("bgp_session_flaps_total", "Times that the BGP session left Established.", "peer"), prometheus.CounterValue, func(p bgp.PeerState) float64 { return float64(p.Flaps) }},
		},
		advertised: desc("bgp_advertised_prefixes", "Prefixes that the router gets.", "peer", "family"),
		counters: []peerCounter{
			{desc("bgp_messages_sent_total", "BGP messages sent since the session was configured.", "peer"), prometheus.CounterValue, func(p bgp.PeerStats) uint64 { return p.MessagesSent }},
			{desc("bgp_messages_received_total", "BGP messages received since the session was configured.", "peer"), prometheus.CounterValue, func(p bgp.PeerStats) uint64 { return p.MessagesReceived }},
			{desc("bgp_updates_sent_total", "UPDATE messages sent since the session was configured.", "peer"), prometheus.CounterValue, func(p bgp.PeerStats) uint64 { return p.UpdatesSent }},
			{desc("bgp_updates_received_total", "UPDATE messages received since the session was configured.", "peer"), prometheus.CounterValue, func(p bgp.PeerStats) uint64 { return p.UpdatesReceived }},
			{desc("bgp_notifications_sent_total", "NOTIFICATION messages sent since the session was configured.", "peer"), prometheus.CounterValue, func(p bgp.PeerStats) uint64 { return p.NotificationsSent }},
			{desc("bgp_notifications_received_total", "NOTIFICATION messages received since the session was configured.", "peer"), prometheus.CounterValue, func(p bgp.PeerStats) uint64 { return p.NotificationsReceived }},
			{desc("bgp_refused_routes", "Routes that the router announces; none is ever accepted.", "peer"), prometheus.GaugeValue, func(p bgp.PeerStats) uint64 { return p.RoutesReceived }},
		},
		perBFD: []bfdMetric{
			{desc("bfd_session_up", "1 if the BFD session is up, else 0.", "address"), prometheus.GaugeValue, func(s bfd.Status) float64 { return truth(s.State == bfd.Up) }},
			{desc("bfd_session_flaps_total", "Times that the BFD session left Up.", "address"), prometheus.CounterValue, func(s bfd.Status) float64 { return float64(s.Downs) }},
			{desc("bfd_packets_sent_total", "BFD control packets sent.", "address"), prometheus.CounterValue, func(s bfd.Status) float64 { return float64(s.Sent) }},
			{desc("bfd_packets_received_total", "BFD control packets received.", "address"), prometheus.CounterValue, func(s bfd.Status) float64 { return float64(s.Received) }},
			{desc("bfd_packets_rejected_total", "BFD control packets that were malformed or came from too far away.", "address"), prometheus.CounterValue, func(s bfd.Status) float64 { return float64(s.Rejected) }},
			{desc("bfd_detection_time_seconds", "How long the router may be silent; 0 before it was heard.", "address"), prometheus.GaugeValue, func(s bfd.Status) float64 { return s.DetectionTime.Seconds() }},
			{desc("bfd_transmit_interval_seconds", "Negotiated interval between two packets that are sent.", "address"), prometheus.GaugeValue, func(s bfd.Status) float64 { return s.TransmitInterval.Seconds() }},
		},
	}
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(out chan<- *prometheus.Desc) {
	for _, m := range c.perInterface {
		out <- m.desc
	}
	for _, m := range c.perNode {
		out <- m.desc
	}
	for _, m := range c.relayed {
		out <- m.desc
	}
	for _, m := range c.ofState {
		out <- m.desc
	}
	out <- c.claims
	out <- c.quorum
	out <- c.answers
	out <- c.plans
	out <- c.advertised
	for _, m := range c.perPeer {
		out <- m.desc
	}
	for _, m := range c.counters {
		out <- m.desc
	}
	for _, m := range c.perBFD {
		out <- m.desc
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(out chan<- prometheus.Metric) {
	for _, s := range c.layer2() {
		for _, m := range c.perInterface {
			out <- prometheus.MustNewConstMetric(m.desc, m.kind, float64(m.value(s)), s.Interface)
		}
	}
	members := c.members()
	for _, m := range c.perNode {
		out <- prometheus.MustNewConstMetric(m.desc, prometheus.CounterValue, float64(m.value(members)))
	}
	for result, n := range map[string]uint64{
		"answered": members.Answered, "silent": members.Silent, "not_asked": members.NotAsked, "void": members.Void,
	} {
		out <- prometheus.MustNewConstMetric(c.answers, prometheus.CounterValue, float64(n), result)
	}
	c.collectState(out)
	out <- prometheus.MustNewConstMetric(c.plans, prometheus.CounterValue, float64(c.planned()))
	for _, p := range c.peers() {
		for _, m := range c.perPeer {
			out <- prometheus.MustNewConstMetric(m.desc, m.kind, m.value(p), string(p.Name))
		}
		for family, n := range map[string]int{"IPv4": p.Advertised.IPv4, "IPv6": p.Advertised.IPv6} {
			out <- prometheus.MustNewConstMetric(c.advertised, prometheus.GaugeValue, float64(n), string(p.Name), family)
		}
	}
	for _, p := range c.stats() {
		for _, m := range c.counters {
			out <- prometheus.MustNewConstMetric(m.desc, m.kind, float64(m.value(p)), string(p.Name))
		}
	}
	for _, s := range c.bfd() {
		for _, m := range c.perBFD {
			out <- prometheus.MustNewConstMetric(m.desc, m.kind, m.value(s), s.Peer.String())
		}
	}
}

// collectState collects what is known of claims and quorums.
func (c *collector) collectState(out chan<- prometheus.Metric) {
	out <- prometheus.MustNewConstMetric(c.claims, prometheus.GaugeValue, float64(c.owns()))
	passed := c.relay()
	for _, m := range c.relayed {
		out <- prometheus.MustNewConstMetric(m.desc, prometheus.CounterValue, float64(m.value(passed)))
	}
	counts, ok := c.state()
	if !ok {
		return
	}
	for _, m := range c.ofState {
		out <- prometheus.MustNewConstMetric(m.desc, m.kind, float64(m.value(counts)))
	}
	for i, has := range counts.Quorum {
		out <- prometheus.MustNewConstMetric(c.quorum, prometheus.GaugeValue, truth(has), i)
	}
}

// truth is 1 for true, else 0.
func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

package main

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/ballast-lb/ballast/internal/bgp"
	"github.com/ballast-lb/ballast/internal/layer2"
	"github.com/ballast-lb/ballast/internal/membership"
)

// collector reads what the speaker counts when it is scraped; it keeps no state.
type collector struct {
	layer2  func() []layer2.Stats
	peers   func() []bgp.PeerState
	members func() membership.Stats
	owns    func() int64

	perInterface []interfaceMetric
	perNode      []nodeMetric
	claims       *prometheus.Desc
	sessions     *prometheus.Desc
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

func (s *speaker) metrics() prometheus.Collector {
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
		layer2: s.layer2.Stats, peers: s.peers, members: s.gossip.stats, owns: s.owns.Load,
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
			member("deaths_total", "Times that another node was found dead, or its speaker left.", func(s membership.Stats) uint64 { return s.Deaths }),
		},
		claims:   desc("layer2_claims", "Units of addresses that this node has claimed."),
		sessions: desc("bgp_session_up", "1 if the BGP session is established, else 0.", "peer"),
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
	out <- c.claims
	out <- c.sessions
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
	out <- prometheus.MustNewConstMetric(c.claims, prometheus.GaugeValue, float64(c.owns()))
	for _, p := range c.peers() {
		up := 0.0
		if p.State == bgp.Established {
			up = 1
		}
		out <- prometheus.MustNewConstMetric(c.sessions, prometheus.GaugeValue, up, string(p.Name))
	}
}

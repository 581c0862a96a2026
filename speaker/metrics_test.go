package main

import (
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/common/expfmt"

	"github.com/ballast-lb/ballast/internal/announce"
	"github.com/ballast-lb/ballast/internal/bfd"
	"github.com/ballast-lb/ballast/internal/bgp"
	"github.com/ballast-lb/ballast/internal/layer2"
	"github.com/ballast-lb/ballast/internal/membership"
)

// measured is a collector of which every source counts something else; begun says that the engine has.
func measured(begun bool) prometheus.Collector {
	var c counts
	c.layer2 = func() []layer2.Stats {
		return []layer2.Stats{{Interface: "eth0", Addresses: 1, Deputized: 2, Requests: 3, Replies: 4, Announcements: 5, Errors: 6, Conflicts: 7, Takeovers: 8}}
	}
	c.peers = func() []bgp.PeerState {
		return []bgp.PeerState{{Name: "r1", State: bgp.Established, Since: time.Unix(1700, 0), Flaps: 9, Advertised: bgp.Advertised{IPv4: 10, IPv6: 11}}, {Name: "r2", State: bgp.Idle}}
	}
	c.stats = func() []bgp.PeerStats {
		return []bgp.PeerStats{{Name: "r1", MessagesSent: 12, MessagesReceived: 13, UpdatesSent: 14, UpdatesReceived: 15, NotificationsSent: 16, NotificationsReceived: 17, RoutesReceived: 18}}
	}
	c.bfd = func() []bfd.Status {
		return []bfd.Status{{
			Session: bfd.Session{Peer: netip.MustParseAddr("192.0.2.1")}, State: bfd.Up, Downs: 19, Sent: 20, Received: 21, Rejected: 22,
			DetectionTime: 900 * time.Millisecond, TransmitInterval: 300 * time.Millisecond,
		}}
	}
	c.members = func() membership.Stats {
		return membership.Stats{Sent: 23, Received: 24, Rejected: 25, Asked: 26, Deaths: 27, Answered: 29, Silent: 30, NotAsked: 31, Void: 32, Vetoes: 33, Vetoed: 34}
	}
	c.owns = func() int64 { return 28 }
	c.relay = func() announce.RelayCounts { return announce.RelayCounts{Passed: 35, Dropped: 36} }
	c.state = func() (announce.Counts, bool) {
		return announce.Counts{
			Disputed: 37, HeldDown: 38, Contested: 39, Lost: 40, Mended: 41, Quorum: map[string]bool{"eth0": true, "eth1": false},
		}, begun
	}
	c.planned = func() int64 { return 29 }
	return newCollector(c)
}

// The names are those of docs/metrics.md; dashboards and alerts of users hold them.
func TestMetricsHaveTheirNamesAndValues(t *testing.T) {
	t.Parallel()
	const want = `ballast_bfd_detection_time_seconds{address="192.0.2.1"} 0.9
ballast_bfd_packets_received_total{address="192.0.2.1"} 21
ballast_bfd_packets_rejected_total{address="192.0.2.1"} 22
ballast_bfd_packets_sent_total{address="192.0.2.1"} 20
ballast_bfd_session_flaps_total{address="192.0.2.1"} 19
ballast_bfd_session_up{address="192.0.2.1"} 1
ballast_bfd_transmit_interval_seconds{address="192.0.2.1"} 0.3
ballast_bgp_advertised_prefixes{family="IPv4",peer="r1"} 10
ballast_bgp_advertised_prefixes{family="IPv4",peer="r2"} 0
ballast_bgp_advertised_prefixes{family="IPv6",peer="r1"} 11
ballast_bgp_advertised_prefixes{family="IPv6",peer="r2"} 0
ballast_bgp_messages_received_total{peer="r1"} 13
ballast_bgp_messages_sent_total{peer="r1"} 12
ballast_bgp_notifications_received_total{peer="r1"} 17
ballast_bgp_notifications_sent_total{peer="r1"} 16
ballast_bgp_refused_routes{peer="r1"} 18
ballast_bgp_session_flaps_total{peer="r1"} 9
ballast_bgp_session_flaps_total{peer="r2"} 0
ballast_bgp_session_since_timestamp_seconds{peer="r1"} 1700
ballast_bgp_session_since_timestamp_seconds{peer="r2"} -6.21355968e+10
ballast_bgp_session_up{peer="r1"} 1
ballast_bgp_session_up{peer="r2"} 0
ballast_bgp_updates_received_total{peer="r1"} 15
ballast_bgp_updates_sent_total{peer="r1"} 14
ballast_layer2_addresses{interface="eth0"} 1
ballast_layer2_claims 28
ballast_layer2_claims_contested_total 39
ballast_layer2_claims_lost_total 40
ballast_layer2_conflicts_total{interface="eth0"} 7
ballast_layer2_deputized_addresses{interface="eth0"} 2
ballast_layer2_disputed_units 37
ballast_layer2_errors_total{interface="eth0"} 6
ballast_layer2_gratuitous_total{interface="eth0"} 5
ballast_layer2_held_down_units 38
ballast_layer2_quorum{interface="eth0"} 1
ballast_layer2_quorum{interface="eth1"} 0
ballast_layer2_replies_total{interface="eth0"} 4
ballast_layer2_requests_total{interface="eth0"} 3
ballast_layer2_takeovers_total{interface="eth0"} 8
ballast_membership_answers_total{result="answered"} 29
ballast_membership_answers_total{result="not_asked"} 31
ballast_membership_answers_total{result="silent"} 30
ballast_membership_answers_total{result="void"} 32
ballast_membership_deaths_total 27
ballast_membership_heartbeats_received_total 24
ballast_membership_heartbeats_sent_total 23
ballast_membership_missed_claims_total 41
ballast_membership_packets_rejected_total 25
ballast_membership_questions_total 26
ballast_membership_relay_dropped_total 36
ballast_membership_relayed_total 35
ballast_membership_vetoes_received_total 34
ballast_membership_vetoes_sent_total 33
ballast_plans_total 29
`
	registry := prometheus.NewPedanticRegistry() // it compares what is collected with what was described
	registry.MustRegister(measured(true))
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var text, got strings.Builder
	for _, family := range families {
		if _, err := expfmt.MetricFamilyToText(&text, family); err != nil {
			t.Fatal(err)
		}
	}
	for line := range strings.Lines(text.String()) {
		if !strings.HasPrefix(line, "#") {
			got.WriteString(line)
		}
	}
	if got.String() != want {
		t.Errorf("got\n%swant\n%s", got.String(), want)
	}
	problems, err := testutil.CollectAndLint(measured(true))
	if err != nil || len(problems) > 0 {
		t.Errorf("names: %v, %v", problems, err)
	}
}

func TestEachMetricIsDocumented(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(measured(true))
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if !strings.Contains(string(page), "`"+family.GetName()+"`") {
			t.Errorf("docs/metrics.md does not say what %s is", family.GetName())
		}
	}
}

func TestWhatTheEngineCountsIsLeftOutUntilItHasBegun(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]int{"ballast_layer2_disputed_units": 0, "ballast_layer2_quorum": 0, "ballast_layer2_claims": 1} {
		if got := testutil.CollectAndCount(measured(false), name); got != want {
			t.Errorf("%d of %s, want %d", got, name, want)
		}
	}
}

package main

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/ballast-lb/ballast/internal/bgp"
	"github.com/ballast-lb/ballast/internal/layer2"
)

// collector reads what the speaker counts when it is scraped; it keeps no state.
type collector struct {
	layer2 func() []layer2.Stats
	peers  func() []bgp.PeerState

	requests, replies, gratuitous, errors, addresses, sessions *prometheus.Desc
}

func (s *speaker) metrics() prometheus.Collector {
	desc := func(name, help, label string) *prometheus.Desc {
		return prometheus.NewDesc("ballast_"+name, help, []string{label}, nil)
	}
	return &collector{
		layer2: s.layer2.Stats, peers: s.peers,
		requests:   desc("layer2_requests_total", "ARP requests for addresses that this node answers for.", "interface"),
		replies:    desc("layer2_replies_total", "ARP replies sent.", "interface"),
		gratuitous: desc("layer2_gratuitous_total", "Gratuitous ARP packets sent.", "interface"),
		errors:     desc("layer2_errors_total", "Failures to open, read or write an interface's socket.", "interface"),
		addresses:  desc("layer2_addresses", "Addresses that this node answers for.", "interface"),
		sessions:   desc("bgp_session_up", "1 if the BGP session is established, else 0.", "peer"),
	}
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.requests, c.replies, c.gratuitous, c.errors, c.addresses, c.sessions} {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(out chan<- prometheus.Metric) {
	counter := func(d *prometheus.Desc, n uint64, label string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), label)
	}
	for _, s := range c.layer2() {
		counter(c.requests, s.Requests, s.Interface)
		counter(c.replies, s.Replies, s.Interface)
		counter(c.gratuitous, s.Announcements, s.Interface)
		counter(c.errors, s.Errors, s.Interface)
		out <- prometheus.MustNewConstMetric(c.addresses, prometheus.GaugeValue, float64(s.Addresses), s.Interface)
	}
	for _, p := range c.peers() {
		up := 0.0
		if p.State == bgp.Established {
			up = 1
		}
		out <- prometheus.MustNewConstMetric(c.sessions, prometheus.GaugeValue, up, string(p.Name))
	}
}

package lan

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/ballast-lb/ballast/internal/link"
)

var (
	us       = link.MAC{2, 0, 0, 0, 0, 1}
	them     = link.MAC{2, 0, 0, 0, 0, 2}
	third    = link.MAC{2, 0, 0, 0, 0, 3}
	all      = link.MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	ourIPv4  = netip.MustParseAddr("192.0.2.1")
	node     = netip.MustParseAddr("192.0.2.2")
	gateway  = netip.MustParseAddr("192.0.2.254")
	vip      = netip.MustParseAddr("203.0.113.7")
	ourLocal = netip.MustParseAddr("fe80::1")
	local    = netip.MustParseAddr("fe80::2")
	vip6     = netip.MustParseAddr("2001:db8::1:2:3")
)

// on returns our interface with these addresses.
func on(prefixes ...string) link.Interface {
	i := link.Interface{Name: "eth0", Index: 2, MAC: us, Up: true}
	for _, p := range prefixes {
		i.Addresses = append(i.Addresses, link.Address{Prefix: netip.MustParsePrefix(p), Stable: true})
	}
	return i
}

func question() Question {
	return Question{From: on("192.0.2.1/24", "fe80::1/64"), Neighbor: Neighbor{node, them}, Others: []netip.Addr{gateway}}
}

// question6 asks for a node without IPv4.
func question6() Question {
	q := question()
	q.Neighbor.Address, q.Speaker = local, vip6
	return q
}

func TestAQuestionThatCannotBeAskedIsRefused(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		change func(*Question)
		want   string
	}{
		{"IPv4 is asked", func(*Question) {}, ""},
		{"IPv6 link-local is asked", func(q *Question) { q.Neighbor.Address = local }, ""},
		{"a speaker of either family is asked", func(q *Question) { q.Speaker = vip6 }, ""},
		{"others of either family are asked", func(q *Question) { q.Others = []netip.Addr{gateway, local} }, ""},
		{"an interface that does not exist", func(q *Question) { q.From.Index = 0 }, "index"},
		{"an interface without a MAC", func(q *Question) { q.From.MAC = link.MAC{} }, "own MAC"},
		{"a neighbor without a MAC", func(q *Question) { q.Neighbor.MAC = link.MAC{} }, "neighbor's MAC"},
		{"a neighbor whose MAC is a group", func(q *Question) { q.Neighbor.MAC = all }, "neighbor's MAC"},
		{"ourselves", func(q *Question) { q.Neighbor.MAC = us }, "our own MAC"},
		{"no address", func(q *Question) { q.Neighbor.Address = netip.Addr{} }, "neighbor's address"},
		{"a global IPv6 address", func(q *Question) { q.Neighbor.Address = vip6 }, "neighbor's address"},
		{"a zone", func(q *Question) { q.Neighbor.Address = local.WithZone("eth0") }, "neighbor's address"},
		{"IPv4 in IPv6", func(q *Question) { q.Neighbor.Address = netip.AddrFrom16(node.As16()) }, "neighbor's address"},
		{"broadcast", func(q *Question) { q.Neighbor.Address = netip.MustParseAddr("255.255.255.255") }, "neighbor's address"},
		{"a group as the speaker's address", func(q *Question) { q.Speaker = netip.MustParseAddr("224.0.0.1") }, "speaker's address"},
		{"the node's address as the speaker's", func(q *Question) { q.Speaker = node }, "speaker's address"},
		{"an unspecified other", func(q *Question) { q.Others = append(q.Others, netip.IPv6Unspecified()) }, "others"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			q := question()
			tt.change(&q)
			err := q.check()
			if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("check() = %v, want %q", err, tt.want)
			}
			if _, asked := NewAsker().Ask(t.Context(), q); tt.want != "" && asked == nil {
				t.Error("Ask returns no error")
			}
		})
	}
}

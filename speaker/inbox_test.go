package main

import (
	"fmt"
	"net/netip"
	"runtime"
	"testing"

	"github.com/ballast-lb/ballast/internal/announce"
	"github.com/ballast-lb/ballast/internal/election"
	"github.com/ballast-lb/ballast/internal/name"
)

// largest is what a speaker tells in the largest cluster that is measured.
func largest() announce.News {
	var n announce.News
	worker := func(i int) name.NodeName { return name.NodeName(fmt.Sprintf("worker-%03d.example.org", i%200)) }
	for i := range 10_000 {
		n.Claims = append(n.Claims, election.Claim{
			Unit: netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}), Owner: worker(i), Successor: worker(i + 7), Epoch: 1_764_494_000<<16 + uint64(i%3),
		})
	}
	for i := range 200 {
		n.Reports = append(n.Reports, announce.Report{Node: worker(i), Number: 3, Interfaces: []announce.Interface{
			{Name: "eth0", Up: true, MAC: announce.MAC{2, 0, 0, 0, 0, byte(i)}, Prefixes: []netip.Prefix{netip.MustParsePrefix("10.0.0.1/24")}},
		}})
	}
	return n
}

// heap is how many bytes are in use.
func heap() int {
	runtime.GC() // twice, for what pools keep
	runtime.GC()
	var now runtime.MemStats
	runtime.ReadMemStats(&now)
	return int(now.HeapAlloc)
}

func TestAnInboxKeepsWhatManySayOnce(t *testing.T) {
	raw := largest().Encode()
	var box inbox
	before := heap()
	for range 20 {
		news, err := announce.DecodeNews(raw)
		if err != nil || !box.add(news) {
			t.Fatalf("no room, %v", err)
		}
	}
	took := heap() - before
	t.Logf("20 say %d bytes each: that takes %d KB until the engine hears it", len(raw), took>>10)
	if took > 8<<20 {
		t.Errorf("%d MB", took>>20)
	}
	facts, _ := box.take()
	if len(facts) != 1 {
		t.Fatalf("%d facts", len(facts))
	}
	if told := facts[0].(announce.Heard).News; len(told.Claims) != 10_000 || len(told.Reports) != 200 {
		t.Errorf("%d claims and %d reports", len(told.Claims), len(told.Reports))
	}
	if facts, digests := box.take(); len(facts) > 0 || len(digests) > 0 {
		t.Errorf("it is not empty then: %v, %v", facts, digests)
	}
}

func TestAnInboxKeepsEachClaimAndTheLastReports(t *testing.T) {
	t.Parallel()
	unit := netip.MustParseAddr("10.0.0.200")
	a, b := election.Claim{Unit: unit, Owner: "a", Epoch: 1}, election.Claim{Unit: unit, Owner: "b", Epoch: 2}
	report := func(number uint64) []announce.Report { return []announce.Report{{Node: "a", Number: number}} }
	var box inbox
	for _, news := range []announce.News{
		{Claims: []election.Claim{b}, Reports: report(2)}, {Claims: []election.Claim{a, b}, Reports: report(1)}, {Claims: []election.Claim{a}},
	} {
		box.add(news)
	}
	facts, _ := box.take()
	told := facts[0].(announce.Heard).News
	if len(told.Claims) != 2 || told.Claims[0] != b || told.Claims[1] != a { // one that was made in vain tells that its maker may announce
		t.Errorf("claims %v", told.Claims)
	}
	if len(told.Reports) != 1 || told.Reports[0].Number != 2 {
		t.Errorf("reports %v", told.Reports)
	}
	box.add(announce.News{Answer: true})
	box.add(announce.News{Digest: &announce.Digest{Node: "x"}})
	facts, digests := box.take()
	if len(facts) != 1 || !facts[0].(announce.Heard).News.Answer || len(digests) != 1 || digests[0].Node != "x" {
		t.Errorf("facts %v, digests %v", facts, digests)
	}
}

func TestAnInboxIsBounded(t *testing.T) {
	t.Parallel()
	var box inbox
	for round := range 12 {
		news := largest()
		for i := range news.Claims {
			news.Claims[i].Epoch += uint64(round) << 20
		}
		news.Digest = &announce.Digest{Node: "x"}
		if kept := box.add(news); kept != (round < 10) {
			t.Errorf("round %d: kept %v", round, kept)
		}
	}
	if _, digests := box.take(); len(digests) != digestsMax {
		t.Errorf("%d digests wait", len(digests))
	}
}

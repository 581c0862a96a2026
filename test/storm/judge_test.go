package storm

import (
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/ballast-lb/ballast/test/lab"
)

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// from makes spans of the times at which who answers changes; the last holds until 60 s.
func from(at float64, owners ...string) Span { return Span{From: seconds(at), Owners: owners} }

func spans(list ...Span) []Span {
	for i := range list {
		list[i].To = seconds(60)
		if i+1 < len(list) {
			list[i].To = list[i+1].From
		}
	}
	return list
}

func happening(k Kind, begin, end float64, nodes ...string) Happening {
	return Happening{
		Fault: Fault{Kind: k, Nodes: nodes, Begin: seconds(begin), Length: seconds(end - begin)},
		Began: seconds(begin), InForce: seconds(begin), Ending: seconds(end), Ended: seconds(end),
	}
}

func on(h Happening, lans ...lab.LAN) Happening {
	h.Fault.LANs = lans
	return h
}

// said are readings each second until before a time, that all say the same.
func said(from, until int, r Reading) []Reading {
	var out []Reading
	for at := from; at < until; at++ {
		r.At = seconds(float64(at))
		out = append(out, r)
	}
	return out
}

func TestJudge(t *testing.T) {
	t.Parallel()
	n2 := spans(from(0, "n2"))
	names := func(n string) Reading { return Reading{True: true, Reason: "Announced", Node: n} }
	first, other := lab.FirstLAN, lab.OtherLAN
	tests := map[string]struct {
		faults   []Happening
		spans    []Span
		readings []Reading
		answered []time.Duration
		late     []Period
		lan      lab.LAN
		want     []Finding
	}{
		"in calm one node answers": {spans: n2},
		"in calm nobody answers for half a second": {
			spans: spans(from(0, "n2"), from(10), from(10.5, "n2")), want: []Finding{NoOwner},
		},
		"in calm one answer is late": {spans: spans(from(0, "n2"), from(10), from(10.2, "n2"))},
		"in calm the witness itself did not run": {
			spans: spans(from(0, "n2"), from(10), from(11, "n2")), late: []Period{{seconds(10), seconds(11)}},
		},
		"a dead node is replaced within a second": {
			faults: []Happening{happening(PowerLost, 10, 20, "n2")}, spans: spans(from(0, "n2"), from(10), from(11, "n3")),
		},
		"a dead node is replaced after two seconds": {
			faults: []Happening{happening(PowerLost, 10, 20, "n2")}, spans: spans(from(0, "n2"), from(10), from(12, "n3")),
			want: []Finding{NoOwner},
		},
		"beside other faults a dead node may be replaced after two seconds": {
			faults: []Happening{happening(PowerLost, 10, 20, "n2"), happening(GossipSplit, 9, 20, "n3", "n4")},
			spans:  spans(from(0, "n2"), from(10), from(12, "n3")),
		},
		"the loss of an interface without gossip takes longer": {
			faults: []Happening{on(happening(CableCut, 10, 20, "n2"), other)}, lan: other,
			spans: spans(from(0, "n2"), from(10), from(12.5, "n3")),
		},
		"the loss of the interface with gossip does not": {
			faults: []Happening{on(happening(CableCut, 10, 20, "n2"), first)},
			spans:  spans(from(0, "n2"), from(10), from(12.5, "n3")), want: []Finding{NoOwner},
		},
		"blocked gossip excuses nothing": {
			faults: []Happening{happening(GossipRejected, 10, 20, "n2")},
			spans:  spans(from(0, "n2"), from(10), from(10.6, "n3")), want: []Finding{NoOwner},
		},
		"an owner stays away after the fault": {
			faults: []Happening{happening(SpeakerFrozen, 10, 20, "n2")}, spans: spans(from(0, "n2"), from(20), from(25, "n2")),
			want: []Finding{NoOwner},
		},
		"nobody can answer where nobody has a cable": {
			faults: []Happening{on(happening(CableCut, 10, 20, announcers()...), first)},
			spans:  spans(from(0, "n2"), from(10), from(20.2, "n2")),
		},
		"no deputy can know of a speaker that was not heard before": {
			faults: []Happening{happening(GossipDropped, 5, 30, "n2"), happening(SpeakerFrozen, 10, 20, "n2")},
			spans:  spans(from(0, "n2"), from(10), from(20.5, "n2")),
		},
		"two nodes settle it within a second of the heal": {
			faults: []Happening{on(happening(Split, 10, 20, "n2"), first)},
			spans:  spans(from(0, "n2"), from(10), from(10.8, "n3"), from(20, "n2", "n3"), from(20.9, "n3")),
		},
		"two nodes do not settle it after the heal": {
			faults: []Happening{on(happening(Split, 10, 20, "n2"), first)},
			spans:  spans(from(0, "n2"), from(10), from(10.8, "n3"), from(20, "n2", "n3"), from(23, "n3")),
			want:   []Finding{TwoOwners},
		},
		"two nodes answer alternately, which counts as all the time": {
			spans: spans(from(0, "n2", "n3"), from(1, "n2"), from(1.1, "n2", "n3"), from(2, "n2")), want: []Finding{TwoOwners},
		},
		"two nodes that cannot hear each other may both answer": {
			faults: []Happening{on(happening(PairParted, 10, 30, "n2", "n3"), first)},
			spans:  spans(from(0, "n2"), from(11, "n2", "n3"), from(30.8, "n2")),
		},
		"of two whose gossip is blocked the one that hears no speaker yields": {
			faults: []Happening{happening(GossipDropped, 5, 40, "n2")},
			spans:  spans(from(0, "n2"), from(11, "n2", "n3"), from(14.5, "n3")),
		},
		"it does not": {
			faults: []Happening{happening(GossipDropped, 5, 40, "n2")},
			spans:  spans(from(0, "n2"), from(11, "n2", "n3"), from(18, "n3")), want: []Finding{TwoOwners},
		},
		"who is cut off from the network of the gossip yields on the other": {
			faults: []Happening{on(happening(CableCut, 5, 40, "n2"), first)}, lan: other,
			spans: spans(from(0, "n2"), from(11, "n2", "n3"), from(14.5, "n3")),
		},
		"of two that hear others one yields later": {
			faults: []Happening{happening(GossipSplit, 5, 40, "n2", "n4")},
			spans:  spans(from(0, "n2"), from(11, "n2", "n3"), from(20, "n3")),
		},
		"of two on the same side one yields at once": {
			faults: []Happening{happening(GossipSplit, 5, 40, "n2", "n3")},
			spans:  spans(from(0, "n2"), from(11, "n2", "n3"), from(20, "n3")), want: []Finding{TwoOwners},
		},
		"who is cut off together with half of all on the network without gossip keeps its address": {
			faults: []Happening{on(happening(Split, 10, 40, "n2", "n3", "n4"), other)}, lan: other,
			spans: spans(from(0, "n2"), from(10), from(40, "n2")), readings: said(1, 60, names("n2")),
		},
		"who is cut off together with fewer does not": {
			faults: []Happening{on(happening(Split, 10, 40, "n2", "n3"), other)}, lan: other,
			spans: spans(from(0, "n2"), from(10), from(40, "n2")), want: []Finding{NoOwner},
		},
		"a third node may not": {
			faults: []Happening{on(happening(PairParted, 10, 30, "n2", "n4"), first)},
			spans:  spans(from(0, "n2"), from(11, "n2", "n3"), from(30, "n2")), want: []Finding{TwoOwners},
		},
		"an address moves in calm": {spans: spans(from(0, "n2"), from(30, "n3")), want: []Finding{Moved}},
		"an address moves with a fault": {
			faults: []Happening{happening(Renumbered, 29, 31, "n2")}, spans: spans(from(0, "n2"), from(30, "n3")),
		},
		"the condition names who answers": {spans: n2, readings: said(1, 60, names("n2"))},
		"the condition names another for four seconds": {
			spans: n2, readings: slices.Concat(said(1, 10, names("n3")), said(10, 14, names("n2")))[5:],
		},
		"the condition names another for long": {
			spans: n2, readings: slices.Concat(said(1, 11, names("n3")), said(11, 60, names("n2"))),
			want: []Finding{UntrueCondition},
		},
		"the condition says that nobody announces what one answers for": {
			spans: n2, readings: said(1, 60, Reading{Reason: "NoEligibleNode"}), want: []Finding{UntrueCondition},
		},
		"the condition is untrue while no speaker has the API server": {
			faults: []Happening{happening(APILostByAll, 10, 40)}, spans: n2,
			readings: slices.Concat(said(1, 12, names("n2")), said(12, 40, names("n3")), said(41, 60, names("n2"))),
		},
		"the condition could not be read in between": {
			spans: n2, readings: slices.Concat(said(1, 5, names("n3")), said(20, 24, names("n3"))),
		},
		"the condition is untrue when an owner without the API server is the only one that knows": {
			faults: []Happening{happening(APILost, 10, 40, "n3")}, spans: spans(from(0, "n2"), from(11, "n3")),
			readings: slices.Concat(said(1, 40, names("n2")), said(40, 60, names("n3"))),
		},
		"connections fail in calm": {
			faults: []Happening{happening(SpeakerSlow, 1, 5, "n2")}, spans: n2,
			answered: []time.Duration{seconds(16), seconds(18), seconds(30), seconds(32), seconds(34)},
			want:     []Finding{NoConnection, NoConnection},
		},
		"connections fail just after a fault": {
			faults: []Happening{happening(SpeakerSlow, 1, 50, "n2")}, spans: n2,
			answered: []time.Duration{seconds(2), seconds(59)},
		},
	}
	address := netip.MustParseAddr("10.10.0.100")
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := Observation{
				Length: seconds(60), Happenings: tt.faults, Targets: []Target{{address, tt.lan, "s"}}, Late: tt.late,
				Spans: map[netip.Addr][]Span{address: tt.spans}, Readings: map[string][]Reading{"s": tt.readings},
			}
			if tt.answered != nil {
				o.Answered = map[netip.Addr][]time.Duration{address: tt.answered}
			}
			var got []Finding
			for _, v := range Judge(o) {
				got = append(got, v.Finding)
				t.Log(v)
				if v.Excess() < 0 {
					t.Errorf("negative excess: %s", v)
				}
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("%v, want %v", got, tt.want)
			}
		})
	}
}

func TestALogIsReadBackAndGoesOn(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "log")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	v := Violation{Finding: TwoOwners, Length: seconds(3), Bound: seconds(1), Subject: "10.10.0.100"}
	want := []Entry{
		{
			Seed: 7, Round: 0, Length: time.Minute,
			Faults: []Happening{happening(CableCut, 1, 2, "n2")}, Violations: []Violation{v},
		},
		{Seed: 7, Round: 1, Length: time.Minute},
	}
	for _, e := range want {
		if err := e.Write(f); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := f.WriteString(`{"seed":7,"round":2,"fau`); err != nil { // the writer died
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	got, size, err := ReadLog(path)
	if err != nil || size != info.Size()-int64(len(`{"seed":7,"round":2,"fau`)) || !reflect.DeepEqual(got, want) {
		t.Fatalf("%+v, %v; want %+v", got, err, want)
	}
	if p := ProgressOf(got, 3); p != (Progress{Done: 2 * time.Minute, NextSeed: 8}) {
		t.Errorf("goes on with %+v", p)
	}
	s := Summarize(got)
	found := s.Found[TwoOwners]
	if s.Rounds != 2 || s.Faults != 1 || !s.Bad() || found.Count != 1 || found.Worst.Excess() != seconds(2) {
		t.Errorf("summary %+v", s)
	}
	if none, _, err := ReadLog(path + "-absent"); none != nil || err != nil {
		t.Errorf("absent log: %v, %v", none, err)
	}
}

package announce_test

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/ballast-lb/ballast/internal/announce"
	"github.com/ballast-lb/ballast/internal/election"
	"github.com/ballast-lb/ballast/internal/name"
)

func TestNewsSurviveTheWire(t *testing.T) {
	t.Parallel()
	said := announce.News{
		Claims: []election.Claim{
			{Unit: netip.MustParseAddr("10.0.0.200"), Owner: "a", Successor: "b", Epoch: 3},
			{Unit: netip.MustParseAddr("2001:db8::1"), Owner: "a", Epoch: 1},
		},
		Reports: []announce.Report{{
			Node: "a", Number: 7, Proxy: announce.ProxyReady, Leaving: true,
			Interfaces: []announce.Interface{{Name: "eth0", Up: true, MAC: announce.MAC{2, 0, 0, 0, 0, 1}, Prefixes: []netip.Prefix{netip.MustParsePrefix("10.0.0.1/24")}}},
			Missed:     []announce.Place{{Node: "b", Interface: "eth1"}},
		}},
		Delivering: []announce.Delivering{{Node: "a", Services: []uint64{1, 1<<64 - 1}}},
	}
	heard, err := announce.DecodeNews(said.Encode())
	if err != nil || !reflect.DeepEqual(heard, said) {
		t.Errorf("said %+v, heard %+v, %v", said, heard, err)
	}
}

// A speaker of the version before reads claims and reports, and nothing else.
func TestTheVersionBeforeUnderstandsDigestsAndAnswers(t *testing.T) {
	t.Parallel()
	d := announce.NewState("a").Digest()
	said := announce.News{
		Digest: &d, Answer: true,
		Claims: []election.Claim{{Unit: netip.MustParseAddr("10.0.0.200"), Owner: "a", Successor: "b", Epoch: 3}},
	}
	var before struct {
		Claims  []election.Claim  `json:"c,omitempty"`
		Reports []announce.Report `json:"r,omitempty"`
	}
	if err := json.Unmarshal(said.Encode(), &before); err != nil || !slices.Equal(before.Claims, said.Claims) {
		t.Errorf("it understands %+v, %v", before, err)
	}
	heard, err := announce.DecodeNews(said.Encode())
	if err != nil || !reflect.DeepEqual(heard, said) {
		t.Errorf("said %+v, heard %+v, %v", said, heard, err)
	}
	if size := len(announce.News{Digest: &announce.Digest{Node: name.NodeName(strings.Repeat("n", 253)), Sums: d.Sums}}.Encode()); size > 1100 {
		t.Errorf("a digest takes %d bytes, too many for a datagram", size)
	}
}

// What nodes miss came into the news later: a speaker of the version before reads the rest, and says nothing
// of it.
func TestASpeakerOfTheVersionBeforeDoesNotMindPlacesThatAreMissed(t *testing.T) {
	t.Parallel()
	type earlier struct {
		Node       name.NodeName        `json:"n"`
		Number     uint64               `json:"k"`
		Interfaces []announce.Interface `json:"i,omitempty"`
		Proxy      announce.ProxyState  `json:"p"`
		Leaving    bool                 `json:"l,omitempty"`
	}
	var heard struct {
		Reports []earlier `json:"r,omitempty"`
	}
	said := announce.Report{Node: "a", Number: 7, Proxy: announce.ProxyReady, Missed: []announce.Place{{Node: "b", Interface: "eth1"}}}
	said.Interfaces = []announce.Interface{{Name: "eth0", Up: true, Cut: true}}
	encoded := announce.News{Reports: []announce.Report{said}}.Encode()
	if err := json.Unmarshal(encoded, &heard); err != nil || len(heard.Reports) != 1 || heard.Reports[0].Number != 7 || len(heard.Reports[0].Interfaces) != 1 {
		t.Fatalf("of %s it heard %+v, %v", encoded, heard, err)
	}
	b, err := json.Marshal(heard)
	if err != nil {
		t.Fatal(err)
	}
	back, err := announce.DecodeNews(b)
	if err != nil || len(back.Reports) != 1 || len(back.Reports[0].Missed) > 0 || back.Reports[0].Interfaces[0].Cut {
		t.Errorf("of %s this version heard %+v, %v", b, back, err)
	}
	said.Missed, said.Interfaces = nil, nil
	if want := `{"r":[{"n":"a","k":7,"p":1}]}`; string(announce.News{Reports: []announce.Report{said}}.Encode()) != want {
		t.Errorf("a node that misses nobody says more than before: %s", announce.News{Reports: []announce.Report{said}}.Encode())
	}
}

func FuzzDecodeNews(f *testing.F) {
	f.Add([]byte(`{"c":[{"u":"10.0.0.1","o":"a","s":"b","e":1}],"r":[{"n":"a","k":1,"p":1}]}`))
	f.Add([]byte(`{"c":[{"u":"","o":"a","e":1}]}`))
	f.Add([]byte(`{"c":[{"u":"10.0.0.1%eth0","o":"","e":18446744073709551615}]}`))
	f.Add([]byte(`{"r":[{"n":"a","p":255,"i":[{"MAC":[1,2]}]}]}`))
	f.Add([]byte(`{"d":{"n":"a","s":"AAAA"},"a":true}`))
	f.Add(announce.News{Digest: new(announce.NewState("a").Digest())}.Encode())
	f.Add([]byte(`{"v":[{"n":"a","s":[1,18446744073709551615]},{"n":"","s":[1]},{"n":"b"}]}`))
	f.Add([]byte(`{"r":[{"n":"a","k":1,"m":[{"n":"b","i":"eth1"},{"n":"","i":""}]}]}`))
	f.Add([]byte(``))
	f.Fuzz(func(t *testing.T, b []byte) {
		news, err := announce.DecodeNews(b)
		if err != nil {
			return
		}
		for _, c := range news.Claims {
			if !c.Unit.IsValid() || c.Owner == "" || c.Epoch == 0 {
				t.Errorf("accepted the claim %+v", c)
			}
		}
		if news.Digest != nil {
			announce.NewState("b").Beyond(*news.Digest)
		}
		for _, d := range news.Delivering {
			if d.Node == "" || len(d.Services) == 0 {
				t.Errorf("accepted %+v", d)
			}
		}
		for _, r := range news.Reports {
			if slices.ContainsFunc(r.Missed, func(p announce.Place) bool { return p.Node == "" || p.Interface == "" }) {
				t.Errorf("accepted the report %+v", r)
			}
		}
		if again, err := announce.DecodeNews(news.Encode()); err != nil || !bytes.Equal(again.Encode(), news.Encode()) {
			t.Errorf("%+v became %+v, %v", news, again, err)
		}
	})
}

package neighbor

import (
	"bytes"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/mdlayher/ndp"
)

var (
	mac    = []byte{2, 0, 0, 0, 0xaa, 1}
	router = netip.MustParseAddr("fe80::2")
	second = netip.MustParseAddr("fe80::3")
	us     = netip.MustParseAddr("fe80::1")
)

func TestWhatIsSentIsReadByAnotherCodecAsWhatIsMeant(t *testing.T) {
	t.Parallel()
	source := []ndp.Option{&ndp.LinkLayerAddress{Direction: ndp.Source, Addr: net.HardwareAddr(mac)}}
	for name, c := range map[string]struct {
		got  []byte
		want ndp.Message
	}{
		"an advertisement has no lifetime and our hardware address":  {advertisement(mac), &ndp.RouterAdvertisement{Options: source}},
		"without a hardware address there is no option":              {advertisement(nil), &ndp.RouterAdvertisement{}},
		"a solicitation has our hardware address":                    {solicitation(mac), &ndp.RouterSolicitation{Options: source}},
		"a hardware address of another length is not told":           {solicitation(make([]byte, 20)), &ndp.RouterSolicitation{}},
		"an advertisement on such an interface has no option either": {advertisement(make([]byte, 20)), &ndp.RouterAdvertisement{}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			want, err := ndp.MarshalMessage(c.want)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(c.got, want) {
				t.Errorf("got  %x\nwant %x", c.got, want)
			}
		})
	}
}

func TestPacketsAreJudgedByTheRulesOfTheRFC(t *testing.T) {
	t.Parallel()
	encode := func(m ndp.Message) []byte {
		b, err := ndp.MarshalMessage(m)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	full := encode(&ndp.RouterAdvertisement{
		CurrentHopLimit: 64, RouterLifetime: 30 * time.Minute,
		Options: []ndp.Option{
			&ndp.LinkLayerAddress{Direction: ndp.Source, Addr: net.HardwareAddr(mac)}, &ndp.MTU{MTU: 1500},
			&ndp.PrefixInformation{PrefixLength: 64, Prefix: netip.MustParseAddr("2001:db8::")},
		},
	})
	with := func(b []byte, at int, value byte) []byte {
		b = bytes.Clone(b)
		b[at] = value
		return b
	}
	for name, c := range map[string]struct {
		from netip.Addr
		hops int
		b    []byte
		want message
	}{
		"an advertisement with options":                               {router, 255, full, advertises},
		"our own kind of advertisement":                               {router, 255, advertisement(mac), advertises},
		"one that a router has forwarded":                             {router, 254, full, invalid},
		"one from a global address":                                   {netip.MustParseAddr("2001:db8::1"), 255, full, invalid},
		"one from no address":                                         {netip.IPv6Unspecified(), 255, full, invalid},
		"one with a code":                                             {router, 255, with(full, 1, 1), invalid},
		"one that is cut":                                             {router, 255, full[:15], invalid},
		"one with an option of length 0":                              {router, 255, with(full, 17, 0), invalid},
		"one with an option that is cut":                              {router, 255, full[:len(full)-1], invalid},
		"a solicitation":                                              {router, 255, solicitation(mac), solicits},
		"a solicitation of a host that has no address yet":            {netip.IPv6Unspecified(), 255, solicitation(nil), solicits},
		"such a solicitation must not tell a hardware address":        {netip.IPv6Unspecified(), 255, solicitation(mac), invalid},
		"a solicitation that a router has forwarded":                  {router, 64, solicitation(mac), invalid},
		"another message":                                             {router, 255, with(full, 0, 136), invalid},
		"nothing":                                                     {router, 255, nil, invalid},
		"an IPv4 address, which cannot be, is no address of a router": {netip.MustParseAddr("169.254.0.1"), 255, full, invalid},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := classify(c.from, c.hops, c.b); got != c.want {
				t.Errorf("classified as %v, want %v", got, c.want)
			}
		})
	}
}

// FuzzClassify compares with another codec, which is stricter about the content of options.
func FuzzClassify(f *testing.F) {
	for _, b := range [][]byte{advertisement(mac), solicitation(mac), advertisement(nil), solicitation(nil), {134}, {}} {
		f.Add(b)
		f.Add(append(bytes.Clone(b), 25, 3))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		got := classify(router, 255, b)
		if classify(router, 64, b) != invalid {
			t.Error("a forwarded packet is valid")
		}
		parsed, err := ndp.ParseMessage(b)
		if err != nil || b[1] != 0 {
			return
		}
		want := invalid
		switch parsed.(type) {
		case *ndp.RouterAdvertisement:
			want = advertises
		case *ndp.RouterSolicitation:
			want = solicits
		}
		if got != want {
			t.Errorf("%x is %v, want %v", b, got, want)
		}
	})
}

package ndp

import (
	"net/netip"
	"testing"

	mdndp "github.com/mdlayher/ndp"
)

func TestSolicitationsAreReadByAnotherCodec(t *testing.T) {
	t.Parallel()
	d := decode(t, frameBytes(Solicit(vip2, host, asker)))
	g, m := group(t, vip2)
	ns, ok := d.message.(*mdndp.NeighborSolicitation)
	if !ok || d.source != asker || d.destination != m || d.from != host || d.to != g || ns.TargetAddress != vip2 || len(ns.Options) != 1 {
		t.Fatalf("Solicit() = %+v %+v", d, d.message)
	}
	if o, ok := ns.Options[0].(*mdndp.LinkLayerAddress); !ok || o.Direction != mdndp.Source || MAC(o.Addr) != asker {
		t.Errorf("Solicit() has the option %+v", ns.Options[0])
	}
}

func TestASolicitationIsAnsweredByWhoHasTheAddressAlone(t *testing.T) {
	t.Parallel()
	self := Self{us, nonce}
	tests := []struct {
		name    string
		target  netip.Addr
		from    MAC
		answers bool
	}{
		{"another host's is answered", vip, asker, true},
		{"our own is not", vip, us, false},
		{"the owner's is not answered by its deputy", lent, owner, false},
		{"another host's is answered by the deputy", lent, asker, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			frame := frameBytes(Solicit(tt.target, host, tt.from))
			if _, answers := Reply(frame, answered(), us); answers != tt.answers {
				t.Errorf("Reply() = %v", answers)
			}
			if claim, seen := Seen(frame, answered(), self); seen {
				t.Errorf("Seen() = %+v", claim)
			}
		})
	}
}

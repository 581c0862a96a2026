package layer2

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/ballast-lb/ballast/internal/announce"
	"github.com/ballast-lb/ballast/internal/link"
	"github.com/ballast-lb/ballast/internal/name"
)

// BenchmarkSetTenThousandServices sets that many one after the other, and takes them away: the
// worst case, in which each is answered before the next comes.
func BenchmarkSetTenThousandServices(b *testing.B) {
	for family, base := range map[string]netip.Addr{"IPv4": netip.MustParseAddr("10.0.0.0"), "IPv6": vip6} {
		b.Run(family, func(b *testing.B) {
			keys, wanted := make([]name.ServiceKey, 10000), make([][]announce.Layer2, 10000)
			address := base
			for i := range keys {
				keys[i] = name.ServiceKey{Namespace: "n", Name: fmt.Sprint(i)}
				wanted[i] = []announce.Layer2{on(address, "eth0")}
				address = address.Next()
			}
			for b.Loop() {
				l := newLAN()
				a := New(l.config())
				s := newState(a)
				now := time.Now()
				s.setLinks(link.Snapshot{eth("eth0", 2, mac0)}, now)
				play := func(i int, addresses []announce.Layer2) {
					a.Set(keys[i], addresses)
					a.advance(s, now)
					a.published.Store(s.publish())
				}
				for i := range keys {
					play(i, wanted[i])
				}
				for i := range keys {
					play(i, nil)
				}
				s.close()
			}
		})
	}
}

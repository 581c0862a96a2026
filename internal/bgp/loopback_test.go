package bgp

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr/testr"
	"github.com/osrg/gobgp/v4/api"
	"github.com/osrg/gobgp/v4/pkg/apiutil"
	"github.com/osrg/gobgp/v4/pkg/packet/bgp"
	"github.com/osrg/gobgp/v4/pkg/server"

	"github.com/ballast-lb/ballast/internal/announce"
	"github.com/ballast-lb/ballast/internal/name"
)

// patience bounds every wait; a first connection takes 2 s.
const patience = 20 * time.Second

// router is another gobgp, in the part of the router, on an address of the loopback interface.
type router struct {
	*server.BgpServer
	address netip.Addr
	port    uint16
	asn     uint32
}

// startRouter starts a router that waits for our session from 127.0.0.1.
func startRouter(t *testing.T, address string, asn, nodeASN uint32) *router {
	t.Helper()
	r := &router{BgpServer: server.NewBgpServer(), address: netip.MustParseAddr(address), asn: asn, port: freePort(t, address)}
	go r.Serve()
	t.Cleanup(r.Stop)
	must(t, r.StartBgp(t.Context(), &api.StartBgpRequest{Global: &api.Global{
		Asn: asn, RouterId: address, ListenPort: int32(r.port), ListenAddresses: []string{address},
	}}))
	must(t, r.AddPeer(t.Context(), &api.AddPeerRequest{Peer: &api.Peer{
		Conf:            &api.PeerConf{NeighborAddress: "127.0.0.1", PeerAsn: nodeASN},
		Transport:       &api.Transport{PassiveMode: true},
		GracefulRestart: &api.GracefulRestart{Enabled: true, RestartTime: 10},
		AfiSafis:        []*api.AfiSafi{gobgpFamily(ipv4, true), gobgpFamily(ipv6, true)},
	}}))
	return r
}

func freePort(t *testing.T, address string) uint16 {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(address, "0"))
	must(t, err)
	defer func() { _ = l.Close() }()
	return uint16(l.Addr().(*net.TCPAddr).Port)
}

func (r *router) peer(peerName string, myASN uint32) announce.Peer {
	return announce.Peer{
		Name: name.PeerName(peerName), MyASN: myASN, PeerASN: r.asn, Address: r.address, Port: r.port,
		Source: netip.MustParseAddr("127.0.0.1"), IPv4: true, IPv6: true, NextHop6: netip.MustParseAddr("2001:db8::1"), Connect: 2 * time.Second,
	}
}

// established starts a router and a Server that has a session with it, as the peer r.
func established(t *testing.T, address string) (*router, *Server) {
	t.Helper()
	r := startRouter(t, address, 64513, 64512)
	s := start(t)
	s.SetPeers([]announce.Peer{r.peer("r", 64512)})
	s.Sync()
	eventually(t, "start", func() string { return states(s) }, "r Established")
	return r, s
}

// routes are the router's, in a canonical form.
func (r *router) routes() string { return routesOf(r.BgpServer) }

func routesOf(s *server.BgpServer) string {
	var routes []string
	for _, f := range []family{ipv4, ipv6} {
		_ = s.ListPath(apiutil.ListPathRequest{TableType: api.TableType_TABLE_TYPE_GLOBAL, Family: f.gobgp()}, func(prefix bgp.NLRI, paths []*apiutil.Path) {
			for _, path := range paths {
				routes = append(routes, prefix.String()+describePath(path))
			}
		})
	}
	slices.Sort(routes)
	return strings.Join(routes, "\n")
}

// describePath names the attributes of a path, in a fixed order.
func describePath(path *apiutil.Path) string {
	var via, asPath, rest string
	for _, attr := range path.Attrs {
		switch a := attr.(type) {
		case *bgp.PathAttributeNextHop:
			via = fmt.Sprintf(" via %s", a.Value)
		case *bgp.PathAttributeMpReachNLRI:
			via = fmt.Sprintf(" via %s", a.Nexthop)
		case *bgp.PathAttributeAsPath:
			for _, segment := range a.Value {
				asPath = fmt.Sprintf(" path %v", segment.GetAS())
			}
		case *bgp.PathAttributeCommunities:
			for _, c := range a.Value {
				rest += fmt.Sprintf(" %d:%d", c>>16, c&0xffff)
			}
		case *bgp.PathAttributeLargeCommunities:
			for _, c := range a.Values {
				rest += fmt.Sprintf(" %d:%d:%d", c.ASN, c.LocalData1, c.LocalData2)
			}
		case *bgp.PathAttributeExtendedCommunities:
			for _, c := range a.Value {
				octets, _ := c.Serialize()
				rest += fmt.Sprintf(" ext %x", octets)
			}
		case *bgp.PathAttributeMultiExitDisc:
			rest += fmt.Sprintf(" med %d", a.Value)
		case *bgp.PathAttributeLocalPref:
			rest += fmt.Sprintf(" pref %d", a.Value)
		}
	}
	return via + asPath + rest
}

// start runs a Server until the test ends.
func start(t *testing.T) *Server {
	t.Helper()
	s := New(Config{NodeName: "node", RouterID: netip.MustParseAddr("127.0.0.1"), Log: testr.New(t)})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return s
}

func eventually(t *testing.T, what string, got func() string, want string) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for last := ""; ; {
		if last = got(); last == want {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s:\ngot  %s\nwant %s", what, last, want)
		}
		poll(t)
	}
}

// poll waits for a moment, in a way that ends with the test.
func poll(t *testing.T) {
	t.Helper()
	select {
	case <-t.Context().Done():
		t.FailNow()
	case <-time.After(10 * time.Millisecond):
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }

func service(s string) name.ServiceKey { return name.ServiceKey{Namespace: "shop", Name: s} }

func to(p string, attributes announce.Attributes, peers ...name.PeerName) announce.Route {
	return announce.Route{Prefix: prefix(p), Peers: peers, Attributes: attributes}
}

func states(s *Server) string {
	var all []string
	for _, p := range s.Peers() {
		all = append(all, fmt.Sprintf("%s %s", p.Name, p.State))
	}
	return strings.Join(all, ", ")
}

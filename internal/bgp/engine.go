package bgp

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/netip"
	"slices"
	"time"

	"github.com/osrg/gobgp/v4/api"
	"github.com/osrg/gobgp/v4/pkg/apiutil"
	"github.com/osrg/gobgp/v4/pkg/packet/bgp"
	"github.com/osrg/gobgp/v4/pkg/server"
)

const (
	// callTimeout is how long a management call may take; the longest known take some 100 ms.
	callTimeout = 30 * time.Second
	// statsTimeout is the same for counters, which somebody waits for.
	statsTimeout = 2 * time.Second
	// stopTimeout is the same for stopping, which sends a Cease to each peer.
	stopTimeout = 5 * time.Second
	// batch is how many paths go with one call, so that none holds up gobgp for long.
	batch = 256
	// connectionLost stands for a session that ended without a NOTIFICATION.
	connectionLost = "connection lost"
	// invalidMessage stands for a message that gobgp does not take.
	invalidMessage = "peer sent an invalid message"
	// refusedOpen is the reason of a peer that refuses what our OPEN says.
	refusedOpen = "peer refused our OPEN: compare AS numbers and router IDs on both sides"
)

// errStuck says that a management call did not return. What gobgp does from then on is unknown, and a
// later call may be overtaken by the stuck one, so nothing but a new process helps.
var errStuck = errors.New("gobgp does not answer")

// engine is a running gobgp server: thin calls with a timeout each, since gobgp ignores the context of
// its management calls. One goroutine uses it.
type engine struct {
	gobgp     *server.BgpServer
	stopWatch context.CancelFunc
	served    chan struct{}
}

// event is a change of a session's state.
type event struct {
	peer  netip.Addr
	state State
	at    time.Time
	// err says why an established session ended, unless the log did.
	err string
	// offered, extended and asn, the peer's AS number, are set with Established.
	offered  map[family]bool
	extended bool
	asn      uint32
}

// startEngine starts a server that dials only, takes nothing from peers and gives them nothing, until setPolicies.
// observe and the log handler are called from goroutines of gobgp and must not block.
func startEngine(asn uint32, routerID netip.Addr, log slog.Handler, observe func(event)) (*engine, error) {
	watch, stopWatch := context.WithCancel(context.Background())
	e := &engine{
		gobgp:     server.NewBgpServer(server.LoggerOption(slog.New(log), nil)),
		stopWatch: stopWatch,
		served:    make(chan struct{}),
	}
	go func() {
		defer close(e.served)
		e.gobgp.Serve()
	}()
	err := e.call("start", callTimeout, func(ctx context.Context) error {
		return errors.Join(
			e.gobgp.StartBgp(ctx, &api.StartBgpRequest{Global: &api.Global{
				Asn: asn, RouterId: routerID.String(), ListenPort: -1,
			}}),
			e.gobgp.SetPolicies(ctx, policies(nil, newMarks(), 0)),
			e.assign(ctx, importPolicy, api.PolicyDirection_POLICY_DIRECTION_IMPORT),
			e.assign(ctx, exportPolicy, api.PolicyDirection_POLICY_DIRECTION_EXPORT),
			e.gobgp.AddPeer(ctx, &api.AddPeerRequest{Peer: absentPeer(asn)}),
			e.gobgp.WatchEvent(watch, server.WatchEventMessageCallbacks{
				OnPeerUpdate: func(update *apiutil.WatchEventMessage_PeerEvent, at time.Time) {
					if watch.Err() == nil {
						observe(eventOf(update, at))
					}
				},
			}, server.WatchPeer()))
	})
	if err != nil {
		stopWatch()
		return nil, errors.Join(err, e.stop(false))
	}
	return e, nil
}

// absentPeer is a peer with graceful restart that is never dialed, at an address that discards (RFC 6666). While gobgp awaits
// its End-of-RIB, each session whose OPEN had the R bit gets its routes after the deferral. Without it, whenever such a
// session begins and all peers have sent theirs, gobgp sends all routes to all peers with graceful restart.
func absentPeer(asn uint32) *api.Peer {
	return &api.Peer{
		Conf:            &api.PeerConf{NeighborAddress: "100::1", PeerAsn: asn, LocalAsn: asn, AdminDown: true},
		Transport:       &api.Transport{PassiveMode: true, LocalAddress: netip.IPv6Unspecified().String()},
		GracefulRestart: &api.GracefulRestart{Enabled: true, RestartTime: 1, DeferralTime: deferral},
		AfiSafis:        []*api.AfiSafi{gobgpFamily(ipv4, true)},
	}
}

// assign makes a policy that of all peers, and rejecting what happens to everything else.
func (e *engine) assign(ctx context.Context, policy string, direction api.PolicyDirection) error {
	return e.gobgp.AddPolicyAssignment(ctx, &api.AddPolicyAssignmentRequest{Assignment: &api.PolicyAssignment{
		Direction:     direction,
		Policies:      []*api.Policy{{Name: policy}},
		DefaultAction: api.RouteAction_ROUTE_ACTION_REJECT,
	}})
}

// stop sends each peer a Cease (peer de-configured, RFC 4486) and ends all goroutines. quietly leaves out peers with which
// graceful restart was negotiated: their connections just end, and they keep our routes (RFC 4724 section 4.2).
func (e *engine) stop(quietly bool) error {
	e.stopWatch()
	return e.call("stop", stopTimeout, func(ctx context.Context) error {
		err := e.gobgp.StopBgp(ctx, &api.StopBgpRequest{AllowGracefulRestart: quietly})
		if err == nil {
			<-e.served
			e.gobgp.Stop() // what StopBgp leaves running
		}
		return err
	})
}

// call makes one management call.
func (e *engine) call(what string, timeout time.Duration, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	return await(ctx, what, f)
}

// await makes one management call, and waits for it until ctx ends.
func await(ctx context.Context, what string, f func(context.Context) error) error {
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	select {
	case err := <-done:
		if err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%s: %w: %w", what, errStuck, ctx.Err())
	}
}

// setPolicies replaces the whole routing policy at once.
func (e *engine) setPolicies(request *api.SetPoliciesRequest) error {
	return e.call("set policies", callTimeout, func(ctx context.Context) error { return e.gobgp.SetPolicies(ctx, request) })
}

// addPaths announces at most a batch of paths; one of the same prefix is replaced.
func (e *engine) addPaths(list []path) error {
	paths := make([]*apiutil.Path, len(list))
	for i := range list {
		paths[i] = pathOf(list[i])
	}
	return e.call("add paths", callTimeout, func(context.Context) error {
		_, err := e.gobgp.AddPath(apiutil.AddPathRequest{Paths: paths})
		return err
	})
}

// deletePaths withdraws at most a batch of prefixes, by path: by UUID would be a search.
func (e *engine) deletePaths(prefixes []netip.Prefix) error {
	paths := make([]*apiutil.Path, len(prefixes))
	for i := range prefixes {
		paths[i] = pathOf(path{prefix: prefixes[i]})
	}
	return e.call("delete paths", callTimeout, func(context.Context) error {
		return e.gobgp.DeletePath(apiutil.DeletePathRequest{Paths: paths})
	})
}

func (e *engine) addPeer(peer *api.Peer) error {
	return e.call("add peer", callTimeout, func(ctx context.Context) error {
		return e.gobgp.AddPeer(ctx, &api.AddPeerRequest{Peer: peer})
	})
}

// updatePeer changes a session, and resets it if the change shows in the OPEN or the TCP connection.
func (e *engine) updatePeer(peer *api.Peer) error {
	return e.call("update peer", callTimeout, func(ctx context.Context) error {
		_, err := e.gobgp.UpdatePeer(ctx, &api.UpdatePeerRequest{Peer: peer})
		return err
	})
}

// deletePeer sends the peer a Cease.
func (e *engine) deletePeer(address netip.Addr) error {
	return e.call("delete peer", callTimeout, func(ctx context.Context) error {
		return e.gobgp.DeletePeer(ctx, &api.DeletePeerRequest{Address: address.String()})
	})
}

// sendAgain passes all paths through the export policy once more, for one peer: what it now rejects is withdrawn.
func (e *engine) sendAgain(address netip.Addr) error {
	return e.call("send again", callTimeout, func(ctx context.Context) error {
		return e.gobgp.ResetPeer(ctx, &api.ResetPeerRequest{
			Address: address.String(), Soft: true, Direction: api.ResetPeerRequest_DIRECTION_OUT,
		})
	})
}

// stats asks for the counters of all sessions, and waits for them until ctx ends.
func (e *engine) stats(ctx context.Context, yield func(netip.Addr, PeerStats)) error {
	ctx, cancel := context.WithTimeout(ctx, statsTimeout)
	defer cancel()
	return await(ctx, "list peers", func(ctx context.Context) error {
		return e.gobgp.ListPeer(ctx, &api.ListPeerRequest{}, func(p *api.Peer) {
			address, err := netip.ParseAddr(p.GetConf().GetNeighborAddress())
			if err != nil {
				return
			}
			sent, received := p.GetState().GetMessages().GetSent(), p.GetState().GetMessages().GetReceived()
			stats := PeerStats{
				MessagesSent: sent.GetTotal(), MessagesReceived: received.GetTotal(),
				UpdatesSent: sent.GetUpdate(), UpdatesReceived: received.GetUpdate(),
				NotificationsSent: sent.GetNotification(), NotificationsReceived: received.GetNotification(),
			}
			for _, a := range p.GetAfiSafis() {
				received := a.GetState().GetReceived()
				stats.RoutesReceived += received
				stats.most = max(stats.most, received)
			}
			yield(address, stats)
		})
	})
}

// path is a path of our own.
type path struct {
	prefix netip.Prefix
	mark   mark
	// weight is what goes out as a transitive link bandwidth; 0: none. asn is the AS number in it.
	weight uint32
	asn    uint16
}

// familyOf is the family of a prefix.
func familyOf(prefix netip.Prefix) family { return family(prefix.Addr().Is6()) }

// pathOf is the path as gobgp has it: its mark, the lowest LOCAL_PREF, and the next hop left to each session.
func pathOf(p path) *apiutil.Path {
	prefix := p.prefix
	nlri, _ := bgp.NewIPAddrPrefix(prefix) // fails for an invalid prefix only
	path := &apiutil.Path{
		Nlri:   nlri,
		Family: familyOf(prefix).gobgp(),
		Attrs: []bgp.PathAttributeInterface{
			bgp.NewPathAttributeOrigin(bgp.BGP_ORIGIN_ATTR_TYPE_IGP),
			bgp.NewPathAttributeLocalPref(0),
			bgp.NewPathAttributeCommunities([]uint32{uint32(p.mark)}),
		},
	}
	if p.weight > 0 {
		value := binary.BigEndian.AppendUint16([]byte{byte(bgp.EC_SUBTYPE_LINK_BANDWIDTH)}, p.asn)
		value = binary.BigEndian.AppendUint32(value, math.Float32bits(float32(bandwidth(p.weight))))
		path.Attrs = append(path.Attrs, bgp.NewPathAttributeExtendedCommunities([]bgp.ExtendedCommunityInterface{
			&bgp.UnknownExtended{Type: bgp.EC_TYPE_TRANSITIVE_TWO_OCTET_AS_SPECIFIC, Value: value},
		}))
	}
	// These fail for an invalid address or a path without prefix only.
	if prefix.Addr().Is4() {
		hop, _ := bgp.NewPathAttributeNextHop(netip.IPv4Unspecified())
		path.Attrs = append(path.Attrs, hop)
	} else {
		reach, _ := bgp.NewPathAttributeMpReachNLRI(path.Family, []bgp.PathNLRI{{NLRI: nlri}}, netip.IPv6Unspecified())
		path.Attrs = append(path.Attrs, reach)
	}
	return path
}

// eventOf reads a peer event.
func eventOf(update *apiutil.WatchEventMessage_PeerEvent, at time.Time) event {
	state := update.Peer.State
	e := event{peer: state.NeighborAddress, state: stateOf(state.SessionState), at: at}
	if e.state == Idle {
		e.err = ending(state.DisconnectReason)
	}
	if e.state == Established {
		e.asn = state.PeerASN
		e.offered = map[family]bool{}
		for _, capability := range state.RemoteCap {
			switch c := capability.(type) {
			case *bgp.CapMultiProtocol:
				e.offered[ipv4] = e.offered[ipv4] || c.CapValue == bgp.RF_IPv4_UC
				e.offered[ipv6] = e.offered[ipv6] || c.CapValue == bgp.RF_IPv6_UC
			case *bgp.CapExtendedNexthop:
				e.extended = e.extended || slices.ContainsFunc(c.Tuples, func(t *bgp.CapExtendedNexthopTuple) bool {
					return t.NLRIAFI == bgp.AFI_IP && t.NLRISAFI == uint16(bgp.SAFI_UNICAST) && t.NexthopAFI == bgp.AFI_IP6
				})
			}
		}
	}
	return e
}

func stateOf(state bgp.FSMState) State {
	switch state {
	case bgp.BGP_FSM_CONNECT:
		return Connect
	case bgp.BGP_FSM_ACTIVE:
		return Active
	case bgp.BGP_FSM_OPENSENT:
		return OpenSent
	case bgp.BGP_FSM_OPENCONFIRM:
		return OpenConfirm
	case bgp.BGP_FSM_ESTABLISHED:
		return Established
	}
	return Idle
}

// ending says why a session ended; empty when the log says it better or it was us.
func ending(reason api.PeerState_DisconnectReason) string {
	switch reason {
	case api.PeerState_DISCONNECT_REASON_HOLD_TIMER_EXPIRED:
		return "hold timer expired: nothing heard from the peer"
	case api.PeerState_DISCONNECT_REASON_READ_FAILED, api.PeerState_DISCONNECT_REASON_WRITE_FAILED,
		api.PeerState_DISCONNECT_REASON_GRACEFUL_RESTART: // the same, of a peer that may come back with its routes
		return connectionLost
	case api.PeerState_DISCONNECT_REASON_INVALID_MSG:
		return invalidMessage
	case api.PeerState_DISCONNECT_REASON_BAD_PEER_AS:
		return sent(codeOpen, subBadPeerAS)
	}
	return ""
}

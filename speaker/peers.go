package main

import (
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ballast-lb/ballast/api/v1alpha1"
	"github.com/ballast-lb/ballast/internal/announce"
	"github.com/ballast-lb/ballast/internal/bfd"
	"github.com/ballast-lb/ballast/internal/bgp"
)

// speakerPeers is what a Speaker says of its node's sessions.
func speakerPeers(peers []bgp.PeerState, watched []bfd.Status) []v1alpha1.SpeakerPeer {
	byPeer := map[netip.Addr]bfd.Status{}
	for _, s := range watched {
		byPeer[s.Peer] = s
	}
	var list []v1alpha1.SpeakerPeer
	for _, p := range peers {
		one := v1alpha1.SpeakerPeer{
			Name: string(p.Name), State: string(p.State), Since: second(p.Since), LastError: p.LastError,
			PeerASN: int64(p.ASN), Flaps: int64(p.Flaps),
			AdvertisedIPv4: int32(p.Advertised.IPv4), AdvertisedIPv6: int32(p.Advertised.IPv6),
		}
		if p.Address.IsValid() {
			one.Address = p.Address.String()
		}
		for _, f := range families(p) {
			switch {
			case f.carriage == bgp.Carried && p.State == bgp.Established:
				one.IPFamilies = append(one.IPFamilies, f.family)
			case f.carriage == bgp.NoNextHop:
				one.NoNextHop = append(one.NoNextHop, f.family)
			}
		}
		if s, is := byPeer[p.Address]; is && p.Address.IsValid() {
			one.BFD, one.BFDSession = s.State.String(), bfdStatus(s)
		}
		list = append(list, one)
	}
	return list
}

func bfdStatus(s bfd.Status) *v1alpha1.SpeakerBFDSession {
	ms := func(d time.Duration) int32 { return int32(d.Milliseconds()) }
	status := &v1alpha1.SpeakerBFDSession{
		RemoteState: s.RemoteState.String(), LastError: s.LastError,
		TransmitInterval: ms(s.TransmitInterval), ReceiveInterval: ms(s.ReceiveInterval), DetectionTime: ms(s.DetectionTime),
	}
	if s.Diagnostic != bfd.NoDiagnostic {
		status.Diagnostic = s.Diagnostic.String()
	}
	if !s.Since.IsZero() {
		status.Since = second(s.Since)
	}
	return status
}

// second is a moment as the API has it.
func second(t time.Time) *metav1.Time {
	rounded := metav1.NewTime(t.Truncate(time.Second))
	return &rounded
}

// familyCarriage is what becomes of a family on a session.
type familyCarriage struct {
	family   corev1.IPFamily
	carriage bgp.Carriage
}

func families(p bgp.PeerState) []familyCarriage {
	return []familyCarriage{{corev1.IPv4Protocol, p.IPv4}, {corev1.IPv6Protocol, p.IPv6}}
}

// established are the sessions that are up, in the order of peers.
func established(peers []bgp.PeerState) []announce.Session {
	carriage := map[bgp.Carriage]announce.Carriage{bgp.Carried: announce.Carried, bgp.NoNextHop: announce.NoNextHop}
	var up []announce.Session
	for _, p := range peers {
		if p.State == bgp.Established {
			up = append(up, announce.Session{Peer: p.Name, IPv4: carriage[p.IPv4], IPv6: carriage[p.IPv6]})
		}
	}
	return up
}

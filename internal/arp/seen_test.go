package arp

import (
	"net/netip"
	"testing"

	mdarp "github.com/mdlayher/arp"
)

func TestSeen(t *testing.T) {
	t.Parallel()
	reply := func(sender MAC, address netip.Addr) mdarp.Packet {
		p := request(sender, address, host)
		p.Operation, p.TargetHardwareAddr = mdarp.OperationReply, asker[:]
		return p
	}
	none := Claim{}
	tests := []struct {
		name        string
		source      MAC
		destination MAC
		packet      mdarp.Packet
		want        Claim
	}{
		{"an announcement by another host shows that it uses the address", other, all, request(other, vip, vip), Claim{vip, other, Announced}},
		{"so does a request that it sends from the address", other, all, request(other, vip, host), Claim{vip, other, Announced}},
		{"so does a unicast reply to us, which no other host hears", other, us, reply(other, vip), Claim{vip, other, Answered}},
		{"a unicast request to us is no answer", other, us, request(other, vip, host), Claim{vip, other, Announced}},
		{"so does a reply to somebody else", other, asker, reply(other, vip), Claim{vip, other, Announced}},
		{"so does a gratuitous reply", other, all, reply(other, vip), Claim{vip, other, Announced}},
		{"the address is that inside, not that outside", asker, all, reply(other, vip), Claim{vip, other, Announced}},
		{"a probe by another host shows that it is about to", other, all, request(other, unset, vip), Claim{vip, other, Probed}},
		{"a reply without a sender address shows nothing", other, us, reply(other, unset), none},
		{"a request for the address shows nothing", other, all, request(other, host, vip), none},
		{"another address shows nothing", other, all, request(other, foreign, vip), none},
		{"what we sent ourselves shows nothing", us, all, request(us, vip, vip), none},
		{"what gives our hardware address shows nothing", other, all, request(us, vip, vip), none},
		{"what a deputy sends for us shows nothing", us, asker, reply(owner, vip), none},
		{"a group as sender shows nothing", other, all, request(group, vip, vip), none},
		{"nobody as sender shows nothing", other, all, request(nobody, vip, vip), none},
		{"the owner may use what a deputy answers", owner, all, request(owner, lent, lent), none},
		{"the owner may probe for it", owner, all, request(owner, unset, lent), none},
		{"nobody else may use it", other, all, request(other, lent, lent), Claim{lent, other, Announced}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, ok := Seen(encode(t, tt.source, tt.destination, tt.packet), answered(), us)
			if got != tt.want || ok != (tt.want != none) {
				t.Errorf("Seen() = %+v, %v, want %+v", got, ok, tt.want)
			}
		})
	}
}

func TestSeenIgnoresWhatIsCutShortAndDoesNotAllocate(t *testing.T) {
	frame := frameBytes(AnnounceReply(vip, other))
	for n := range FrameLen {
		if _, ok := Seen(frame[:n], answered(), us); ok {
			t.Errorf("read a frame of %d bytes", n)
		}
	}
	set := answered()
	if n := testing.AllocsPerRun(100, func() { Seen(frame, set, us) }); n != 0 {
		t.Errorf("Seen allocates %v times", n)
	}
	frame[offOperation+1] = 3
	if _, ok := Seen(frame, answered(), us); ok {
		t.Error("a reverse ARP operation shows a conflict")
	}
}

// FuzzSeen holds Seen against the rules, read with an independent codec.
func FuzzSeen(f *testing.F) {
	f.Add(frameBytes(AnnounceRequest(vip, other)))
	f.Add(frameBytes(AnnounceReply(lent, other)))
	f.Add(frameBytes(AnnounceReply(lent, owner)))
	f.Add(frameBytes(Probe(vip2, other)))
	f.Add(encode(f, asker, all, request(asker, host, vip)))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, frame []byte) {
		claim, ok := Seen(frame, answered(), us)
		want, shows := shown(frame)
		if claim != want || ok != shows {
			t.Fatalf("Seen() = %+v, %v, want %+v, %v", claim, ok, want, shows)
		}
	})
}

// shown is the slow, obvious form of the rules.
func shown(frame []byte) (Claim, bool) {
	var p mdarp.Packet
	if len(frame) < FrameLen || frame[offEtherType] != 0x08 || frame[offEtherType+1] != 0x06 || p.UnmarshalBinary(frame[14:]) != nil {
		return Claim{}, false
	}
	if p.HardwareType != 1 || p.ProtocolType != 0x0800 || p.HardwareAddrLength != 6 || p.IPLength != 4 {
		return Claim{}, false
	}
	sender := MAC(p.SenderHardwareAddr)
	if sender == us || MAC(frame[6:12]) == us || sender == nobody || sender[0]%2 == 1 {
		return Claim{}, false
	}
	use := Announced
	if p.Operation == mdarp.OperationReply && MAC(frame[:6]) == us {
		use = Answered
	}
	isRequest, isReply := p.Operation == mdarp.OperationRequest, p.Operation == mdarp.OperationReply
	for address, allowed := range map[netip.Addr]MAC{vip: us, vip2: us, lent: owner} {
		switch {
		case sender == allowed:
		case p.SenderIP == address && (isRequest || isReply):
			return Claim{address, sender, use}, true
		case p.SenderIP == unset && p.TargetIP == address && isRequest:
			return Claim{address, sender, Probed}, true
		}
	}
	return Claim{}, false
}

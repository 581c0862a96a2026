package membership

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"

	"github.com/ballast-lb/ballast/internal/name"
)

// kind is what a packet is for.
type kind uint8

// The kinds of packets.
const (
	// heartbeat says that the sender lives, to those that watch it.
	heartbeat kind = iota + 1
	// ping asks for a pong with the same nonce, pong is that.
	ping
	pong
	// suspect says that the sender misses the heartbeats of the node that about names.
	suspect
	// farewell says that the sender's speaker stops; see restarting and left.
	farewell
	// inquiry asks whether the receiver hears the node that about names, veto says that it does.
	// Speakers of the version before take neither.
	inquiry
	veto
)

// flags say how the sender is.
type flags uint8

// The flags.
const (
	// joined: it knows what the others own.
	joined flags = 1 << iota
	// deaf: it hears nobody on the LAN.
	deaf
	// watched: it sends heartbeats to this receiver until it says otherwise.
	watched
	// left: it has stopped for good; a farewell without it precedes a restart.
	left
)

// packet is one message between two speakers, in one UDP datagram.
type packet struct {
	kind  kind
	flags flags
	// boot is a random number of the sender's process; seq counts its packets.
	boot, seq uint64
	// nonce ties a pong to its ping.
	nonce uint64
	from  name.NodeName
	about name.NodeName
}

const (
	// version stands in front of each packet.
	version = "BHB1"
	// fixedLen is the length of what precedes the names: version, kind, flags, cluster, boot,
	// sequence and nonce.
	fixedLen = 4 + 1 + 1 + 8 + 8 + 8 + 8
	// tagLen is the length of the authentication tag: HMAC-SHA-256-128 (RFC 4868 section 2.6).
	tagLen = 16
	// packetMax is the length of the longest packet, with two names of at most 253 bytes.
	packetMax = fixedLen + 2*(1+255) + tagLen
)

// clusterOf is what tells the packets of clusters apart.
func clusterOf(label string) uint64 {
	sum := sha256.Sum256([]byte("ballast cluster " + label))
	return binary.BigEndian.Uint64(sum[:])
}

// encode writes p and signs it with key.
func (p packet) encode(cluster uint64, key Key) []byte {
	b := append(make([]byte, 0, packetMax), version...)
	b = append(b, byte(p.kind), byte(p.flags))
	for _, n := range []uint64{cluster, p.boot, p.seq, p.nonce} {
		b = binary.BigEndian.AppendUint64(b, n)
	}
	for _, n := range []name.NodeName{p.from, p.about} {
		b = append(b, byte(min(len(n), 255)))
		b = append(b, n[:min(len(n), 255)]...)
	}
	return append(b, tag(b, key)...)
}

var errPacket = errors.New("decode packet: it is malformed, of another cluster, or not signed with a known key")

// decode reads what encode wrote, if one of keys signed it.
func decode(b []byte, cluster uint64, keys []Key) (packet, error) {
	if len(b) < fixedLen+2+tagLen || len(b) > packetMax || string(b[:4]) != version || binary.BigEndian.Uint64(b[6:]) != cluster {
		return packet{}, errPacket
	}
	signed, mac := b[:len(b)-tagLen], b[len(b)-tagLen:]
	authentic := false
	for _, k := range keys {
		authentic = authentic || hmac.Equal(mac, tag(signed, k))
	}
	if !authentic {
		return packet{}, errPacket
	}
	p := packet{
		kind: kind(b[4]), flags: flags(b[5]),
		boot: binary.BigEndian.Uint64(b[14:]), seq: binary.BigEndian.Uint64(b[22:]), nonce: binary.BigEndian.Uint64(b[30:]),
	}
	rest := signed[fixedLen:]
	for _, n := range []*name.NodeName{&p.from, &p.about} {
		if len(rest) < 1 || len(rest) < 1+int(rest[0]) {
			return packet{}, errPacket
		}
		end := 1 + int(rest[0])
		*n, rest = name.NodeName(rest[1:end]), rest[end:]
	}
	if len(rest) > 0 || p.kind < heartbeat || p.kind > veto || p.from == "" {
		return packet{}, errPacket
	}
	return p, nil
}

// tag authenticates a packet with a key that is derived from that of the gossip.
func tag(b []byte, key Key) []byte {
	derive := hmac.New(sha256.New, key[:])
	derive.Write([]byte("ballast heartbeats"))
	h := hmac.New(sha256.New, derive.Sum(nil))
	h.Write(b)
	return h.Sum(nil)[:tagLen]
}

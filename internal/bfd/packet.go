package bfd

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"
)

// State is the state of a session (RFC 5880 section 4.1), in the numbers of the wire.
type State uint8

// The states of RFC 5880 section 6.2.
const (
	AdminDown State = iota
	Down
	Init
	Up
)

// String returns the state's name in RFC 5880.
func (s State) String() string {
	names := [...]string{"AdminDown", "Down", "Init", "Up"}
	if int(s) >= len(names) {
		return fmt.Sprintf("State(%d)", uint8(s))
	}
	return names[s]
}

// Diagnostic says why a session last left Up (RFC 5880 section 4.1), in the numbers of the wire.
type Diagnostic uint8

// The diagnostics that this package gives.
const (
	NoDiagnostic         Diagnostic = 0
	DetectionTimeExpired Diagnostic = 1
	NeighborSignaledDown Diagnostic = 3
	AdministrativelyDown Diagnostic = 7
	maxDiagnostic                   = 8
	versionOne           uint8      = 1
	// packetLength is that of a packet without authentication, maxPacket bounds one with it.
	packetLength = 24
	maxPacket    = 256
)

// String returns the diagnostic in words.
func (d Diagnostic) String() string {
	names := [...]string{
		"no diagnostic", "control detection time expired", "echo function failed", "neighbor signaled session down",
		"forwarding plane reset", "path down", "concatenated path down", "administratively down", "reverse concatenated path down",
	}
	if d > maxDiagnostic {
		return fmt.Sprintf("diagnostic %d", uint8(d))
	}
	return names[d]
}

// Packet is a control packet (RFC 5880 section 4.1) without authentication. Intervals are whole
// microseconds, at most about 71 minutes.
type Packet struct {
	Diagnostic  Diagnostic
	State       State
	Poll, Final bool
	// Independent is the C bit: the sender's BFD does not share fate with its control plane.
	Independent bool
	Demand      bool
	Multiplier  uint8
	// My and Your are discriminators.
	My, Your                                    uint32
	DesiredMinTx, RequiredMinRx, RequiredEchoRx time.Duration
}

// Bits of the second octet.
const (
	bitPoll          = 1 << 5
	bitFinal         = 1 << 4
	bitIndependent   = 1 << 3
	bitAuthenticated = 1 << 2
	bitDemand        = 1 << 1
	bitMultipoint    = 1 << 0
)

// Append adds the packet in the form of the wire, 24 octets.
func (p Packet) Append(b []byte) []byte {
	flags := byte(p.State) << 6
	for bit, set := range map[byte]bool{bitPoll: p.Poll, bitFinal: p.Final, bitIndependent: p.Independent, bitDemand: p.Demand} {
		if set {
			flags |= bit
		}
	}
	b = append(b, versionOne<<5|byte(p.Diagnostic)&0x1f, flags, p.Multiplier, packetLength)
	for _, v := range [...]uint32{p.My, p.Your, micros(p.DesiredMinTx), micros(p.RequiredMinRx), micros(p.RequiredEchoRx)} {
		b = binary.BigEndian.AppendUint32(b, v)
	}
	return b
}

func micros(d time.Duration) uint32 {
	return uint32(min(max(d.Microseconds(), 0), 1<<32-1))
}

// The reasons for which a packet is discarded.
var (
	errShort         = errors.New("shorter than its length field, or than a header")
	errVersion       = errors.New("version is not 1")
	errMultiplier    = errors.New("detect multiplier is 0")
	errMultipoint    = errors.New("multipoint bit is set")
	errDiscriminator = errors.New("my discriminator is 0")
	errNoSession     = errors.New("your discriminator is 0 in a state other than Down and AdminDown")
	errAuthenticated = errors.New("authentication is not in use")
)

// Parse reads a packet and applies those rules of RFC 5880 section 6.8.6 that need nothing but
// the packet, in their order. Octets after the length field's are ignored.
func Parse(b []byte) (Packet, error) {
	if len(b) < packetLength {
		return Packet{}, errShort
	}
	flags, length := b[1], int(b[3])
	p := Packet{
		Diagnostic: Diagnostic(b[0] & 0x1f), State: State(flags >> 6),
		Poll: flags&bitPoll != 0, Final: flags&bitFinal != 0, Independent: flags&bitIndependent != 0, Demand: flags&bitDemand != 0,
		Multiplier: b[2],
		My:         binary.BigEndian.Uint32(b[4:]), Your: binary.BigEndian.Uint32(b[8:]),
		DesiredMinTx: interval(b[12:]), RequiredMinRx: interval(b[16:]), RequiredEchoRx: interval(b[20:]),
	}
	switch {
	case b[0]>>5 != versionOne:
		return p, errVersion
	case length < packetLength, length > len(b):
		return p, errShort
	case p.Multiplier == 0:
		return p, errMultiplier
	case flags&bitMultipoint != 0:
		return p, errMultipoint
	case p.My == 0:
		return p, errDiscriminator
	case p.Your == 0 && p.State != Down && p.State != AdminDown:
		return p, errNoSession
	case flags&bitAuthenticated != 0:
		return p, errAuthenticated
	}
	return p, nil
}

func interval(b []byte) time.Duration {
	return time.Duration(binary.BigEndian.Uint32(b)) * time.Microsecond
}

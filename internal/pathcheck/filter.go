package pathcheck

import (
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// drop stands, in a program, for the distance to its last instruction.
const drop = 0xff

// answers4 is the program for a raw IPv4 socket, whose packets begin with the IP header: it passes what
// goes to the ports of tries, as everything for a TCP port of this node comes by.
func answers4() ([]unix.SockFilter, error) {
	return assemble(
		bpf.LoadMemShift{Off: 0},
		bpf.LoadIndirect{Off: 2, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpLessThan, Val: firstPort, SkipTrue: drop},
	)
}

// answers6 is that for a raw IPv6 socket, whose packets begin with the TCP header (RFC 3542 section 3).
func answers6() ([]unix.SockFilter, error) {
	return assemble(
		bpf.LoadAbsolute{Off: 2, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpLessThan, Val: firstPort, SkipTrue: drop},
	)
}

// leaving4 is the program for a packet socket without link headers: it passes each SYN from the ports of tries that
// leaves the node.
func leaving4() []bpf.Instruction {
	return []bpf.Instruction{
		bpf.LoadExtension{Num: bpf.ExtType},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.PACKET_OUTGOING, SkipTrue: drop},
		bpf.LoadAbsolute{Off: protocol4, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: tcpProtocol, SkipTrue: drop},
		bpf.LoadMemShift{Off: 0},
		bpf.LoadIndirect{Off: 0, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpLessThan, Val: firstPort, SkipTrue: drop},
		bpf.LoadIndirect{Off: 13, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: flagSYN, SkipTrue: drop},
	}
}

func leaving6() []bpf.Instruction {
	return []bpf.Instruction{
		bpf.LoadExtension{Num: bpf.ExtType},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.PACKET_OUTGOING, SkipTrue: drop},
		bpf.LoadAbsolute{Off: next6, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: tcpProtocol, SkipTrue: drop},
		bpf.LoadAbsolute{Off: header6, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpLessThan, Val: firstPort, SkipTrue: drop},
		bpf.LoadAbsolute{Off: header6 + 13, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: flagSYN, SkipTrue: drop},
	}
}

// assemble makes a program that passes what none of its jumps drops.
func assemble(program ...bpf.Instruction) ([]unix.SockFilter, error) {
	program = append(program, bpf.RetConstant{Val: 0xffff}, bpf.RetConstant{Val: 0})
	for i, instruction := range program {
		if jump, ok := instruction.(bpf.JumpIf); ok && jump.SkipTrue == drop {
			jump.SkipTrue = uint8(len(program) - 2 - i)
			program[i] = jump
		}
	}
	raw, err := bpf.Assemble(program)
	if err != nil {
		return nil, err
	}
	filters := make([]unix.SockFilter, len(raw))
	for i, r := range raw {
		filters[i] = unix.SockFilter{Code: r.Op, Jt: r.Jt, Jf: r.Jf, K: r.K}
	}
	return filters, nil
}

// onlyOf begins a program for a packet socket that gets all protocols with one that passes only one of them.
func onlyOf(protocol uint16) []bpf.Instruction {
	return []bpf.Instruction{
		bpf.LoadExtension{Num: bpf.ExtProto},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: uint32(protocol), SkipTrue: drop},
	}
}

package lan

import (
	"encoding/binary"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/ballast-lb/ballast/internal/link"
)

const (
	// answerLen is how much of an answer the kernel copies, in bytes: an advertisement with all
	// the options that a host may well send.
	answerLen = 256
	// drop stands for the distance to the last instruction of a program, until assemble.
	drop = 0xff
)

// The filters are what the kernel runs on every frame before it wakes us. They pass no more than
// answers and isOther take, as far as the kernel can tell.

// answerFilter passes ARP replies and neighbor advertisements from the neighbor to us.
func answerFilter(q Question) []bpf.Instruction {
	return append(skipUnless(offSource, q.Neighbor.MAC), replyFilter(q.From.MAC)...)
}

// replyFilter passes ARP replies and neighbor advertisements to us.
func replyFilter(own link.MAC) []bpf.Instruction {
	return append(skipUnless(offDestination, own),
		bpf.LoadAbsolute{Off: offEtherType, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: etherTypeARP, SkipTrue: 6},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: etherTypeIPv6, SkipTrue: drop},
		bpf.LoadAbsolute{Off: offNextHeader, Size: 2}, // and the hop limit
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: nextICMPv6<<8 | maxHopLimit, SkipTrue: drop},
		bpf.LoadAbsolute{Off: offType, Size: 2}, // and the code
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: typeNA << 8, SkipTrue: drop},
		bpf.RetConstant{Val: answerLen},
		bpf.LoadAbsolute{Off: offOperation, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: opReply, SkipTrue: drop},
		bpf.RetConstant{Val: answerLen},
	)
}

// otherFilter passes the Ethernet headers of frames from hosts that are neither we nor the
// neighbor.
func otherFilter(q Question) []bpf.Instruction {
	program := []bpf.Instruction{
		bpf.LoadAbsolute{Off: offSource, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpBitsSet, Val: 1, SkipTrue: drop}, // a group
	}
	for _, m := range []link.MAC{{}, q.From.MAC, q.Neighbor.MAC} {
		high, low := halves(m)
		program = append(program,
			bpf.LoadAbsolute{Off: offSource, Size: 4},
			bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: high, SkipTrue: 2},
			bpf.LoadAbsolute{Off: offSource + 4, Size: 2},
			bpf.JumpIf{Cond: bpf.JumpEqual, Val: low, SkipTrue: drop},
		)
	}
	return append(program, bpf.RetConstant{Val: headerLen})
}

// incoming drops what this host sends, which a socket for all protocols sees too.
func incoming() []bpf.Instruction {
	return []bpf.Instruction{
		bpf.LoadExtension{Num: bpf.ExtType},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.PACKET_OUTGOING, SkipTrue: drop},
	}
}

// skipUnless drops a frame that has not m at offset.
func skipUnless(offset uint32, m link.MAC) []bpf.Instruction {
	high, low := halves(m)
	return []bpf.Instruction{
		bpf.LoadAbsolute{Off: offset, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: high, SkipTrue: drop},
		bpf.LoadAbsolute{Off: offset + 4, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: low, SkipTrue: drop},
	}
}

// halves returns the first four bytes of m and its last two, as the kernel loads them.
func halves(m link.MAC) (high, low uint32) {
	return binary.BigEndian.Uint32(m[:4]), uint32(binary.BigEndian.Uint16(m[4:]))
}

// assemble joins the parts of a program, and the instruction that drops at its end. A load past
// the end of a frame drops it too.
func assemble(parts ...[]bpf.Instruction) ([]bpf.RawInstruction, error) {
	var program []bpf.Instruction
	for _, p := range parts {
		program = append(program, p...)
	}
	program = append(program, bpf.RetConstant{Val: 0})
	for i, instruction := range program {
		if jump, ok := instruction.(bpf.JumpIf); ok && jump.SkipTrue == drop {
			jump.SkipTrue = uint8(len(program) - 2 - i)
			program[i] = jump
		}
	}
	return bpf.Assemble(program)
}

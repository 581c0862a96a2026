package ndp

import "golang.org/x/net/bpf"

// filter returns the program that the kernel runs on every frame before it wakes us: it
// passes neighbor solicitations and advertisements that no router has forwarded.
// Advertisements pass because they show when another host uses an address (RFC 4862 section
// 5.4.4); truncated packets and those with extension headers do not.
func filter() ([]bpf.RawInstruction, error) {
	const drop = 0xff // replaced below by the distance to the last instruction
	program := []bpf.Instruction{
		bpf.LoadAbsolute{Off: offEtherType, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: etherTypeIPv6, SkipTrue: drop},
		bpf.LoadAbsolute{Off: offNextHeader, Size: 2}, // and the hop limit
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: nextICMPv6<<8 | maxHopLimit, SkipTrue: drop},
		bpf.LoadAbsolute{Off: offType, Size: 2}, // and the code
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: typeNS << 8, SkipTrue: 1},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: typeNA << 8, SkipTrue: drop},
		bpf.LoadAbsolute{Off: offOptions - 4, Size: 4}, // a load past the end drops the frame
		bpf.RetConstant{Val: 0xffff},
		bpf.RetConstant{Val: 0},
	}
	for i, instruction := range program {
		if jump, ok := instruction.(bpf.JumpIf); ok && jump.SkipTrue == drop {
			jump.SkipTrue = uint8(len(program) - 2 - i)
			program[i] = jump
		}
	}
	return bpf.Assemble(program)
}

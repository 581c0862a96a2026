package arp

import "golang.org/x/net/bpf"

// filter returns the program that the kernel runs on every frame before it wakes us: it
// passes ARP requests and replies for IPv4 on Ethernet. Replies pass because they show when
// another host uses an address (RFC 5227 section 2.4); truncated and foreign packets do not.
func filter() ([]bpf.RawInstruction, error) {
	const drop = 0xff // replaced below by the distance to the last instruction
	program := []bpf.Instruction{
		bpf.LoadAbsolute{Off: offEtherType, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: etherTypeARP, SkipTrue: drop},
		bpf.LoadAbsolute{Off: offHardware, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: hardwareEther, SkipTrue: drop},
		bpf.LoadAbsolute{Off: offProtocol, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: etherTypeIPv4, SkipTrue: drop},
		bpf.LoadAbsolute{Off: offLengths, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: lengths, SkipTrue: drop},
		bpf.LoadAbsolute{Off: offOperation, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: opRequest, SkipTrue: 1},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: opReply, SkipTrue: drop},
		bpf.LoadAbsolute{Off: offTargetAddress, Size: 4}, // a load past the end drops the frame
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

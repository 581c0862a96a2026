package ether

import (
	"fmt"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// ownNetwork returns program behind a check that drops the frames of a VLAN (IEEE 802.1Q). A packet
// socket gets those that no interface of their VLAN takes, without their tag: they look like frames
// of the interface's own network, but come from another. A tag without a VLAN (VID 0) only tells a
// priority.
//
// A socket for all EtherTypes gets a frame while the kernel still knows its tag. One for a single
// EtherType gets it later, when the tag is forgotten and the frame is marked as one for another host
// whatever its destination (__netif_receive_skb_core in net/core/dev.c of Linux), so what is for other
// hosts is dropped with it.
func ownNetwork(etherType uint16, program []bpf.RawInstruction) ([]bpf.RawInstruction, error) {
	const vlanID = 0xfff // IEEE 802.1Q: the low 12 bits of the tag
	check := []bpf.Instruction{
		bpf.LoadExtension{Num: bpf.ExtType},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.PACKET_OTHERHOST, SkipTrue: 1},
		bpf.RetConstant{Val: 0},
	}
	if etherType == All {
		check = []bpf.Instruction{
			bpf.LoadExtension{Num: bpf.ExtVLANTagPresent},
			bpf.JumpIf{Cond: bpf.JumpEqual, Val: 0, SkipTrue: 4},
			bpf.LoadExtension{Num: bpf.ExtVLANTag},
			bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: vlanID},
			bpf.JumpIf{Cond: bpf.JumpEqual, Val: 0, SkipTrue: 1},
			bpf.RetConstant{Val: 0},
		}
	}
	raw, err := bpf.Assemble(check)
	if err != nil {
		return nil, fmt.Errorf("assemble filter: %w", err)
	}
	return append(raw, program...), nil
}

package lan

import (
	"testing"

	"golang.org/x/net/bpf"
)

// run runs a filter in user space, but for what only the kernel knows (incoming), and returns how
// many bytes it passes.
func run(t testing.TB, filter []bpf.Instruction, frame []byte) int {
	t.Helper()
	raw, err := assemble(filter)
	if err != nil {
		t.Fatal(err)
	}
	program, ok := bpf.Disassemble(raw)
	if !ok {
		t.Fatal("the program does not disassemble")
	}
	vm, err := bpf.NewVM(program)
	if err != nil {
		t.Fatal(err)
	}
	n, err := vm.Run(frame)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestFilterPassesRepliesOfTheNeighborToUsAlone(t *testing.T) {
	t.Parallel()
	arp, na := reply(node, them), advertisement(local, them, at(them), nil)
	tests := []struct {
		name  string
		frame []byte
		want  bool
	}{
		{"an ARP reply passes", arp, true},
		{"an ARP reply for any address passes, for answers to judge", reply(gateway, them), true},
		{"a neighbor advertisement passes", na, true},
		{"an ARP request is dropped", with(arp, offOperation+1, opRequest), false},
		{"a neighbor solicitation is dropped", with(na, offType, typeNS), false},
		{"another protocol over IPv6 is dropped", with(na, offNextHeader, 6), false},
		{"IPv4 is dropped", with(arp, offEtherType+1, 0), false},
		{"another host's is dropped", reply(node, third), false},
		{"a MAC that differs at its start is dropped", with(arp, offSource, 6), false},
		{"one to another host is dropped", with(arp, offDestination+5, 9), false},
		{"one to everybody is dropped", with(arp, offDestination, all[:]...), false},
		{"a short frame is dropped", arp[:offOperation], false},
		{"an empty frame is dropped", nil, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if n := run(t, answerFilter(question()), tt.frame); (n > 0) != tt.want {
				t.Errorf("passes %d bytes, want passing %v", n, tt.want)
			}
		})
	}
}

func TestTheKernelsFiltersAssemble(t *testing.T) {
	t.Parallel()
	for _, filter := range [][]bpf.Instruction{answerFilter(question()), otherFilter(question())} {
		raw, err := assemble(incoming(), filter)
		if err != nil {
			t.Fatal(err)
		}
		program, ok := bpf.Disassemble(raw)
		if !ok {
			t.Fatal("the program does not disassemble")
		}
		for i, instruction := range program {
			if jump, is := instruction.(bpf.JumpIf); is && i+1+int(jump.SkipTrue) >= len(program) {
				t.Errorf("instruction %d jumps out of the program: %v", i, jump)
			}
		}
	}
}

package arp

import (
	"testing"

	mdarp "github.com/mdlayher/arp"
	"golang.org/x/net/bpf"
)

func TestFilterPassesARPForIPv4OnEthernetAlone(t *testing.T) {
	t.Parallel()
	raw, err := filter()
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
	plain := encode(t, asker, all, request(asker, host, vip))
	with := func(offset int, value byte) []byte {
		frame := append([]byte(nil), plain...)
		frame[offset] = value
		return frame
	}
	tests := []struct {
		name  string
		frame []byte
		want  bool
	}{
		{"a request passes", plain, true},
		{"a request without padding passes", plain[:FrameLen], true},
		{"a reply passes", with(offOperation+1, opReply), true},
		{"a frame to another host passes, for Reply to judge", with(0, 0x02), true},
		{"a reverse ARP operation is dropped", with(offOperation+1, 3), false},
		{"IPv4 is dropped", with(offEtherType+1, 0x00), false},
		{"another hardware type is dropped", with(offHardware+1, 6), false},
		{"another protocol type is dropped", with(offProtocol, 0x86), false},
		{"another hardware address length is dropped", with(offLengths, 8), false},
		{"another protocol address length is dropped", with(offLengths+1, 16), false},
		{"a frame cut short by a byte is dropped", plain[:FrameLen-1], false},
		{"an empty frame is dropped", nil, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			n, err := vm.Run(tt.frame)
			if err != nil {
				t.Fatal(err)
			}
			if (n > 0) != tt.want {
				t.Errorf("passes %d bytes, want passing %v", n, tt.want)
			}
		})
	}
}

// FuzzFilterNeverDropsWhatMatters checks that the kernel's view and ours agree.
func FuzzFilterNeverDropsWhatMatters(f *testing.F) {
	raw, err := filter()
	if err != nil {
		f.Fatal(err)
	}
	program, _ := bpf.Disassemble(raw)
	vm, err := bpf.NewVM(program)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(encode(f, asker, all, request(asker, host, vip)))
	f.Add(encode(f, asker, all, mdarp.Packet{HardwareType: 1, ProtocolType: 0x0800, Operation: 1, SenderIP: host, TargetIP: vip}))
	f.Add(frameBytes(AnnounceReply(vip, other)))
	f.Fuzz(func(t *testing.T, frame []byte) {
		n, err := vm.Run(frame)
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := Reply(frame, answered(), us); ok && n == 0 {
			t.Fatal("the filter drops a frame that would be answered")
		}
		if _, ok := Seen(frame, answered(), us); ok && n == 0 {
			t.Fatal("the filter drops a frame that shows a conflict")
		}
	})
}

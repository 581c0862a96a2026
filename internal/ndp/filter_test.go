package ndp

import (
	"bytes"
	"testing"
)

func TestFilterPassesSolicitationsAndAdvertisementsFromTheLinkAlone(t *testing.T) {
	t.Parallel()
	passes := machine(t)
	plain := solicitation(t, vip).encode(t)
	with := func(offset int, value byte) []byte {
		frame := bytes.Clone(plain)
		frame[offset] = value
		return frame
	}
	tests := []struct {
		name  string
		frame []byte
		want  bool
	}{
		{"a solicitation passes", plain, true},
		{"a solicitation without options passes", reachable(vip).encode(t), true},
		{"an advertisement passes", advertisement(asker, vip).encode(t), true},
		{"a frame to another host passes, for Reply to judge", with(0, 0x02), true},
		{"a router solicitation is dropped", with(offType, 133), false},
		{"a router advertisement is dropped", with(offType, 134), false},
		{"a redirect is dropped", with(offType, 137), false},
		{"another code is dropped", with(offCode, 1), false},
		{"IPv4 is dropped", with(offEtherType, 0x08), false},
		{"UDP is dropped", with(offNextHeader, 17), false},
		{"an extension header is dropped", with(offNextHeader, 0), false},
		{"what a router has forwarded is dropped", with(offHopLimit, 254), false},
		{"a frame cut short by a byte is dropped", reachable(vip).encode(t)[:offOptions-1], false},
		{"an empty frame is dropped", nil, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := passes(tt.frame); got != tt.want {
				t.Errorf("passes %v, want %v", got, tt.want)
			}
		})
	}
}

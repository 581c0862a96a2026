package lan

import (
	"fmt"

	"golang.org/x/net/bpf"

	"github.com/ballast-lb/ballast/internal/ether"
)

// listen opens a socket in the network namespace of the calling thread that sees what a filter passes of
// all that comes in on one interface; the caller closes it.
func listen(index int, filter []bpf.Instruction) (*ether.Socket, error) {
	program, err := assemble(incoming(), filter)
	if err != nil {
		return nil, fmt.Errorf("assemble filter: %w", err)
	}
	return ether.Listen(index, ether.All, program)
}

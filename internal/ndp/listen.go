package ndp

import (
	"fmt"

	"github.com/ballast-lb/ballast/internal/ether"
)

// Listen opens a packet socket that passes neighbor solicitations and advertisements alone on
// the interface with this index, whether or not it has an IPv6 address; see ether.Listen.
// What is sent to a solicited-node group arrives only if the group is joined (Groups).
func Listen(index int) (Conn, error) {
	program, err := filter()
	if err != nil {
		return nil, fmt.Errorf("assemble filter: %w", err)
	}
	return ether.Listen(index, etherTypeIPv6, program)
}

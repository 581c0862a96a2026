package arp

import (
	"fmt"

	"github.com/ballast-lb/ballast/internal/ether"
)

// Listen opens a packet socket that passes ARP alone on the interface with this index, whether
// or not it has an IPv4 address; see ether.Listen.
func Listen(index int) (Conn, error) {
	program, err := filter()
	if err != nil {
		return nil, fmt.Errorf("assemble filter: %w", err)
	}
	return ether.Listen(index, etherTypeARP, program)
}

package ndp

import (
	"errors"
	"net/netip"
	"os"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"
)

// room is a kernel whose sockets hold a few groups each.
type room struct {
	limit   int
	short   error // what a socket that is full says
	sockets []*roomSocket
	refused error // what opening a socket says
}

type roomSocket struct {
	room   *room
	groups []key
	closed bool
}

func (r *room) open() (member, error) {
	if r.refused != nil {
		return nil, r.refused
	}
	s := &roomSocket{room: r}
	r.sockets = append(r.sockets, s)
	return s, nil
}

func (s *roomSocket) join(group key) error {
	if s.closed || slices.Contains(s.groups, group) {
		return unix.EADDRINUSE
	}
	if len(s.groups) >= s.room.limit {
		return os.NewSyscallError("setsockopt", s.room.short)
	}
	s.groups = append(s.groups, group)
	return nil
}

func (s *roomSocket) leave(group key) error {
	i := slices.Index(s.groups, group)
	if s.closed || i < 0 {
		return unix.EADDRNOTAVAIL
	}
	s.groups = slices.Delete(s.groups, i, i+1)
	return nil
}

func (s *roomSocket) close() error {
	if s.closed {
		return unix.EBADF
	}
	s.closed, s.groups = true, nil
	return nil
}

// holds returns the groups that the kernel has joined, and how many sockets are open.
func (r *room) holds() (groups []key, sockets int) {
	for _, s := range r.sockets {
		groups = append(groups, s.groups...)
		if !s.closed {
			sockets++
		}
	}
	slices.SortFunc(groups, key.compare)
	return groups, sockets
}

func TestGroupsAgreeWithASet(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		kernel := &room{limit: 3, short: rapid.SampledFrom([]error{unix.ENOMEM, unix.ENOBUFS}).Draw(t, "short")}
		g := newGroups(kernel.open)
		oracle := map[netip.Addr]bool{}
		for range rapid.IntRange(0, 80).Draw(t, "steps") {
			// The second byte changes the address and not its group.
			a := netip.AddrFrom16([16]byte{0x20, rapid.Byte().Draw(t, "b") % 2, 15: rapid.Byte().Draw(t, "c") % 12})
			var err error
			switch rapid.IntRange(0, 20).Draw(t, "what") {
			case 0:
				err = g.Close()
				clear(oracle)
			case 1, 2, 3, 4, 5, 6, 7, 8, 9:
				err = g.Leave(a)
				delete(oracle, a)
			default:
				err = g.Join(a)
				oracle[a] = true
			}
			if err != nil {
				t.Fatal(err)
			}
			var want []key
			for a := range oracle {
				want = append(want, solicitedNode(value(a)))
			}
			slices.SortFunc(want, key.compare)
			want = slices.Compact(want)
			got, sockets := kernel.holds()
			if !slices.Equal(got, want) || g.Len() != len(want) {
				t.Fatalf("joined %v (Len %d), want %v", got, g.Len(), want)
			}
			if sockets > len(want) {
				t.Fatalf("%d sockets for %d groups", sockets, len(want))
			}
		}
	})
}

func TestASecondSocketIsOpenedOnlyWhenTheFirstIsFull(t *testing.T) {
	t.Parallel()
	kernel := &room{limit: 100, short: unix.ENOMEM}
	g := newGroups(kernel.open)
	for i := range 350 {
		if err := g.Join(numbered(i)); err != nil {
			t.Fatal(err)
		}
	}
	if _, sockets := kernel.holds(); sockets != 4 {
		t.Errorf("%d sockets, want 4", sockets)
	}
	for i := range 10 { // of the second socket, and what takes their room and that of the last
		if err := g.Leave(numbered(100 + i)); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 60 {
		if err := g.Join(numbered(350 + i)); err != nil {
			t.Fatal(err)
		}
	}
	if _, sockets := kernel.holds(); sockets != 4 || g.Len() != 400 {
		t.Errorf("%d sockets for %d groups, want 4 for 400", sockets, g.Len())
	}
	for i := range 100 {
		if err := g.Leave(numbered(i)); err != nil {
			t.Fatal(err)
		}
	}
	if _, sockets := kernel.holds(); sockets != 3 || g.Len() != 300 {
		t.Errorf("%d sockets for %d groups, want 3 for 300", sockets, g.Len())
	}
}

func TestAFailedJoinLeavesNothingBehindAndCanBeRepeated(t *testing.T) {
	t.Parallel()
	kernel := &room{limit: 0, short: unix.ENOMEM}
	g := newGroups(kernel.open)
	if err := g.Join(vip); !errors.Is(err, unix.ENOMEM) {
		t.Errorf("Join() = %v, want ENOMEM of a new socket", err)
	}
	if _, sockets := kernel.holds(); sockets != 0 || g.Len() != 0 {
		t.Errorf("%d sockets and %d groups are left", sockets, g.Len())
	}
	kernel.limit, kernel.refused = 1, unix.EMFILE
	if err := g.Join(vip); !errors.Is(err, unix.EMFILE) {
		t.Errorf("Join() = %v, want EMFILE", err)
	}
	kernel.refused = nil
	for range 2 {
		if err := g.Join(vip); err != nil {
			t.Error(err)
		}
	}
	if groups, _ := kernel.holds(); len(groups) != 1 {
		t.Errorf("joined %v", groups)
	}
	if err := errors.Join(g.Leave(vip), g.Leave(vip), g.Leave(foreign)); err != nil || g.Len() != 0 {
		t.Errorf("Leave() = %v, %d groups are left", err, g.Len())
	}
}

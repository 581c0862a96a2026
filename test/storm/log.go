package storm

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

// Entry is one line of a log: a round that was completed, with all that was wrong in it.
type Entry struct {
	Seed       uint64        `json:"seed"`
	Round      int           `json:"round"`
	Began      time.Time     `json:"began"`
	Length     time.Duration `json:"length"`
	Faults     []Happening   `json:"faults"`
	Violations []Violation   `json:"violations"`
	// Owners are who answered for each address, and when that changed.
	Owners map[string][]Span `json:"owners"`
	// Late is the longest time for which the witness did not run.
	Late time.Duration `json:"late"`
	// Load is the machine's load average over a minute at the end of the round.
	Load string `json:"load,omitempty"`
}

// EntryOf is the log's entry of a round.
func EntryOf(seed uint64, round int, began time.Time, o Observation) Entry {
	e := Entry{
		Seed: seed, Round: round, Began: began, Length: o.Length, Faults: o.Happenings, Violations: Judge(o),
		Owners: map[string][]Span{},
	}
	for a, spans := range o.Spans {
		e.Owners[a.String()] = spans
	}
	for _, l := range o.Late {
		e.Late = max(e.Late, l.To-l.From)
	}
	if load, err := os.ReadFile("/proc/loadavg"); err == nil {
		e.Load, _, _ = strings.Cut(string(load), " ")
	}
	return e
}

// Write appends the entry to a log, as one line.
func (e Entry) Write(w io.Writer) error {
	line, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("encode log entry: %w", err)
	}
	if _, err := w.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("write log entry: %w", err)
	}
	return nil
}

// ReadLog reads a log, and says how long it is without a last line that was cut short when its writer died. A log that
// does not exist is empty.
func ReadLog(path string) (entries []Entry, size int64, err error) {
	data, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, 0, fmt.Errorf("read log: %w", err)
	}
	for n := 1; ; n++ {
		line, rest, whole := bytes.Cut(data, []byte("\n"))
		if !whole {
			return entries, size, nil
		}
		var e Entry
		if err := json.Unmarshal(line, &e); err != nil {
			return nil, 0, fmt.Errorf("read line %d of log: %w", n, err)
		}
		entries = append(entries, e)
		size += int64(len(line)) + 1
		data = rest
	}
}

// Progress is how far the rounds of a log have come.
type Progress struct {
	Done     time.Duration
	NextSeed uint64
}

// ProgressOf adds rounds up. A run that was interrupted goes on with the seed after its last, since what it did to the
// lab is lost with the lab. Without rounds it begins with the first seed.
func ProgressOf(entries []Entry, first uint64) Progress {
	p := Progress{NextSeed: first}
	for _, e := range entries {
		p.Done += e.Length
		p.NextSeed = e.Seed + 1
	}
	return p
}

// Summary counts what was found.
type Summary struct {
	Rounds, Faults int
	Seeds          []uint64
	Length         time.Duration
	Found          map[Finding]Tally
}

// Tally counts violations of one finding, and has the one with the greatest excess.
type Tally struct {
	Count int
	Worst Violation
	// Seed and Round are those of the worst.
	Seed  uint64
	Round int
}

// Summarize adds up a log.
func Summarize(entries []Entry) Summary {
	s := Summary{Found: map[Finding]Tally{}}
	for _, e := range entries {
		s.Rounds++
		s.Faults += len(e.Faults)
		s.Length += e.Length
		if n := len(s.Seeds); n == 0 || s.Seeds[n-1] != e.Seed {
			s.Seeds = append(s.Seeds, e.Seed)
		}
		for _, v := range e.Violations {
			t := s.Found[v.Finding]
			t.Count++
			if t.Count == 1 || v.Excess() > t.Worst.Excess() {
				t.Worst, t.Seed, t.Round = v, e.Seed, e.Round
			}
			s.Found[v.Finding] = t
		}
	}
	return s
}

// Bad says whether there was any violation.
func (s Summary) Bad() bool { return len(s.Found) > 0 }

// Findings are all that there are, in the order in which they are told.
func Findings() []Finding { return []Finding{NoOwner, TwoOwners, UntrueCondition, Moved, NoConnection} }

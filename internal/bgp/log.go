package bgp

import (
	"context"
	"log/slog"
	"net/netip"
	"strings"

	"github.com/go-logr/logr"
)

// logHandler takes gobgp's log. From info on, its records become debug lines. Some are the only place where gobgp says why a
// session cannot be made (its peer events begin after the peer's OPEN): failed receives those, in words.
// Safe for concurrent use.
type logHandler struct {
	log    logr.Logger
	failed func(peer netip.Addr, why string)
	// peer is whose logger this is, from gobgp's attribute Key.
	peer netip.Addr
}

// Enabled implements slog.Handler. gobgp logs failed attempts to connect at debug level.
func (h logHandler) Enabled(context.Context, slog.Level) bool { return true }

// WithGroup implements slog.Handler; gobgp has no groups.
func (h logHandler) WithGroup(string) slog.Handler { return h }

// WithAttrs implements slog.Handler.
func (h logHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	for _, attr := range attrs {
		if attr.Key == "Key" {
			h.peer, _ = netip.ParseAddr(attr.Value.String())
		}
		h.log = h.log.WithValues(attr.Key, attr.Value.Any())
	}
	return h
}

// Handle implements slog.Handler.
func (h logHandler) Handle(_ context.Context, record slog.Record) error {
	if why := reason(record); why != "" && h.peer.IsValid() {
		h.failed(h.peer, why)
	}
	if record.Level < slog.LevelInfo || !h.log.V(1).Enabled() {
		return nil
	}
	values := []any{"text", record.Message}
	record.Attrs(func(attr slog.Attr) bool {
		values = append(values, attr.Key, attr.Value.Any())
		return true
	})
	h.log.V(1).Info("gobgp", values...)
	return nil
}

// connecting begins the reason of an attempt that did not get as far as a connection.
const connecting = "connect: "

// reason says why a session failed, if the record does.
func reason(record slog.Record) string {
	switch record.Message {
	case "failed to connect":
		why := text(record, "Error") // dial tcp ADDRESS: WHY, or dial tcp ADDRESS: connect: WHY
		return connecting + why[strings.LastIndex(why, ": ")+len(": "):]
	case "outgoing connection IO error":
		return "peer closed the connection before its OPEN"
	case "outgoing connection closing due to hold timer expired in OPEN SENT state":
		return "peer sent no OPEN"
	case "sent notification":
		return sent(number(record, "Code"), number(record, "Subcode"))
	case "received notification":
		why := "received NOTIFICATION: " + notification(number(record, "Code"), number(record, "Subcode"))
		if words := text(record, "Communicated-Reason"); words != "" {
			why += ", " + words
		}
		return why
	}
	return ""
}

func text(record slog.Record, key string) string {
	value := find(record, key)
	if value.Kind() != slog.KindString {
		return ""
	}
	return value.String()
}

func number(record slog.Record, key string) int {
	value := find(record, key)
	if value.Kind() != slog.KindInt64 {
		return 0
	}
	return int(value.Int64())
}

func find(record slog.Record, key string) (value slog.Value) {
	record.Attrs(func(attr slog.Attr) bool {
		if attr.Key == key {
			value = attr.Value
		}
		return attr.Key != key
	})
	return value
}

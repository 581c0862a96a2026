package kube

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/go-logr/logr"
)

func TestHealthIsAliveFromTheFirstMomentAndReadyOnceNoCheckObjects(t *testing.T) {
	t.Parallel()
	h := NewHealth(logr.Discard())
	served, synced := errors.New("the API server to answer"), errors.New("not synced yet")
	expect := func(status int, says string) {
		t.Helper()
		for path, want := range map[string]int{"/healthz": http.StatusOK, "/readyz": status} {
			answer := httptest.NewRecorder()
			h.handler().ServeHTTP(answer, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, http.NoBody))
			if answer.Code != want || path == "/readyz" && !strings.Contains(answer.Body.String(), says) {
				t.Errorf("%s answers %d %q, want %d and %q", path, answer.Code, answer.Body, want, says)
			}
		}
	}
	expect(http.StatusServiceUnavailable, "it starts")
	try := h.following(func() error { return served })
	_ = try()
	expect(http.StatusServiceUnavailable, "waiting for the API server to answer")
	served = nil
	_ = try()
	expect(http.StatusServiceUnavailable, "it starts")
	h.Check("caches", func() error { return synced })
	h.Started()
	expect(http.StatusServiceUnavailable, "caches: not synced yet")
	synced = nil
	expect(http.StatusOK, "ok")
	h.Check("caches", func() error { return errors.New("lost") })
	expect(http.StatusServiceUnavailable, "lost")
}

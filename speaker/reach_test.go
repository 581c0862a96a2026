package main

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/go-logr/logr"
)

func TestAnAPIServerThatAnswersIsInReach(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		status int
		fails  bool
	}{
		{"it is well", http.StatusOK, false},
		{"it does not let us ask", http.StatusForbidden, false},
		{"it lacks what it needs", http.StatusInternalServerError, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			asked := ""
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				asked = r.URL.Path
				w.WriteHeader(tt.status)
			}))
			defer server.Close()
			r := reach{url: server.URL + "/", client: server.Client(), log: logr.Discard()}
			if err := r.ask(t.Context()); (err != nil) != tt.fails || asked != "/livez" {
				t.Errorf("asked for %q: %v", asked, err)
			}
			server.Close()
			if err := r.ask(t.Context()); err == nil {
				t.Error("it is in reach once it is away")
			}
		})
	}
}

package bgp

import (
	"testing"

	"github.com/osrg/gobgp/v4/api"
)

func TestTheEndOfASessionHasAReason(t *testing.T) {
	t.Parallel()
	for reason, want := range map[api.PeerState_DisconnectReason]string{
		api.PeerState_DISCONNECT_REASON_READ_FAILED:           connectionLost,
		api.PeerState_DISCONNECT_REASON_WRITE_FAILED:          connectionLost,
		api.PeerState_DISCONNECT_REASON_GRACEFUL_RESTART:      connectionLost,
		api.PeerState_DISCONNECT_REASON_HOLD_TIMER_EXPIRED:    "hold timer expired: nothing heard from the peer",
		api.PeerState_DISCONNECT_REASON_INVALID_MSG:           "peer sent an invalid message",
		api.PeerState_DISCONNECT_REASON_BAD_PEER_AS:           "sent NOTIFICATION: OPEN message error: bad peer AS (2/2)",
		api.PeerState_DISCONNECT_REASON_NOTIFICATION_RECEIVED: "", // the log says it better
		api.PeerState_DISCONNECT_REASON_DECONFIGURED:          "", // it was us
	} {
		if got := ending(reason); got != want {
			t.Errorf("%s: %q, want %q", reason, got, want)
		}
	}
}

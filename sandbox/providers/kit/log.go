package kit

import (
	"context"
	"sync"
	"time"

	pulumirpc "github.com/pulumi/pulumi/sdk/v3/proto/go"
	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials/insecure"
)

const (
	severityInfo    = pulumirpc.LogSeverity_INFO
	severityWarning = pulumirpc.LogSeverity_WARNING
)

// logger sends messages to the engine and watches whether the engine still lives.
type logger struct {
	mu     sync.Mutex
	conn   *grpc.ClientConn
	client pulumirpc.EngineClient
}

func newLogger(engine string) (*logger, error) {
	if engine == "" {
		return &logger{}, nil
	}
	conn, err := grpc.NewClient("passthrough:///"+engine, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, err
	}
	return &logger{conn: conn, client: pulumirpc.NewEngineClient(conn)}, nil
}

// send is best effort: a lost log line must not fail the operation. Calls are serialized,
// so that lines arrive in their order.
func (l *logger) send(severity pulumirpc.LogSeverity, urn, message string, passing bool) {
	if l.client == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	_, _ = l.client.Log(ctx, &pulumirpc.LogRequest{
		Severity: severity, Urn: urn, Message: message, Ephemeral: passing,
	})
}

// watch calls gone when the engine's end of the connection closes: an engine that was killed
// sends no Cancel, and a plugin that outlives it would go on changing things unseen.
func (l *logger) watch(gone func()) {
	if l.conn == nil {
		return
	}
	l.conn.Connect()
	ready := false
	for state := l.conn.GetState(); ; state = l.conn.GetState() {
		switch {
		case state == connectivity.Ready:
			ready = true
		case ready && state == connectivity.Idle:
			l.conn.Connect()
		case state == connectivity.TransientFailure || state == connectivity.Shutdown:
			gone()
			return
		}
		l.conn.WaitForStateChange(context.Background(), state)
	}
}

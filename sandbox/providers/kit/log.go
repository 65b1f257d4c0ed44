package kit

import (
	"context"
	"sync"
	"time"

	pulumirpc "github.com/pulumi/pulumi/sdk/v3/proto/go"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

const (
	severityInfo    = pulumirpc.LogSeverity_INFO
	severityWarning = pulumirpc.LogSeverity_WARNING
)

// logger sends messages to the engine.
type logger struct {
	mu     sync.Mutex
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
	return &logger{client: pulumirpc.NewEngineClient(conn)}, nil
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

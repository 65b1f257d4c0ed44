// Package kittest drives a plugin in tests as the engine does, without an engine.
package kittest

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	pulumirpc "github.com/pulumi/pulumi/sdk/v3/proto/go"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/structpb"

	"overlord/sandbox/providers/kit"
)

// Plugin is a configured plugin under test.
type Plugin struct {
	t   *testing.T
	RPC pulumirpc.ResourceProviderServer
}

// Start configures a plugin.
func Start[C any](t *testing.T, provider kit.Provider[C], config kit.Props) *Plugin {
	t.Helper()
	p := &Plugin{t: t, RPC: kit.NewServer(provider)}
	_, err := p.RPC.Configure(context.Background(), &pulumirpc.ConfigureRequest{Args: p.encode(config)})
	if err != nil {
		t.Fatalf("configure: %v", err)
	}
	return p
}

// URN makes the name of a resource called "it".
func URN(token string) string { return "urn:pulumi:test::project::" + token + "::it" }

func (p *Plugin) encode(in kit.Props) *structpb.Struct {
	p.t.Helper()
	out, err := kit.Encode(in)
	if err != nil {
		p.t.Fatal(err)
	}
	return out
}

// Check returns checked inputs and the failures as "property: reason".
func (p *Plugin) Check(token string, news kit.Props) (kit.Props, []string) {
	p.t.Helper()
	resp, err := p.RPC.Check(context.Background(), &pulumirpc.CheckRequest{
		Urn: URN(token), News: p.encode(news), RandomSeed: []byte("seed"),
	})
	if err != nil {
		p.t.Fatalf("check: %v", err)
	}
	var failures []string
	for _, f := range resp.GetFailures() {
		failures = append(failures, f.GetProperty()+": "+f.GetReason())
	}
	return kit.Decode(resp.GetInputs()), failures
}

// Inputs checks inputs that must be right.
func (p *Plugin) Inputs(token string, news kit.Props) kit.Props {
	p.t.Helper()
	inputs, failures := p.Check(token, news)
	if len(failures) > 0 {
		p.t.Fatalf("check: %v", failures)
	}
	return inputs
}

// Diff returns the changed paths with their kinds.
func (p *Plugin) Diff(token string, state, news kit.Props) (map[string]string, *pulumirpc.DiffResponse) {
	p.t.Helper()
	resp, err := p.RPC.Diff(context.Background(), &pulumirpc.DiffRequest{
		Id: "1", Urn: URN(token), Olds: p.encode(state), News: p.encode(p.Inputs(token, news)),
	})
	if err != nil {
		p.t.Fatalf("diff: %v", err)
	}
	out := map[string]string{}
	for path, d := range resp.GetDetailedDiff() {
		out[path] = d.GetKind().String()
	}
	return out, resp
}

// Create makes a resource of unchecked inputs.
func (p *Plugin) Create(token string, news kit.Props) (id string, state kit.Props, err error) {
	p.t.Helper()
	resp, err := p.RPC.Create(context.Background(), &pulumirpc.CreateRequest{
		Urn: URN(token), Properties: p.encode(p.Inputs(token, news)),
	})
	return resp.GetId(), kit.Decode(resp.GetProperties()), err
}

// Preview returns what a preview of a creation shows.
func (p *Plugin) Preview(token string, news kit.Props) kit.Props {
	p.t.Helper()
	resp, err := p.RPC.Create(context.Background(), &pulumirpc.CreateRequest{
		Urn: URN(token), Properties: p.encode(p.Inputs(token, news)), Preview: true,
	})
	if err != nil {
		p.t.Fatalf("preview: %v", err)
	}
	return kit.Decode(resp.GetProperties())
}

// Update changes a resource.
func (p *Plugin) Update(token, id string, state, news kit.Props) (kit.Props, error) {
	p.t.Helper()
	resp, err := p.RPC.Update(context.Background(), &pulumirpc.UpdateRequest{
		Urn: URN(token), Id: id, Olds: p.encode(state), News: p.encode(p.Inputs(token, news)),
		OldInputs: p.encode(state),
	})
	return kit.Decode(resp.GetProperties()), err
}

// Read refreshes a resource; without state and inputs it imports one. A resource that is gone
// has no id.
func (p *Plugin) Read(token, id string, state, inputs kit.Props) (newID string, newState, newInputs kit.Props, err error) {
	p.t.Helper()
	resp, err := p.RPC.Read(context.Background(), &pulumirpc.ReadRequest{
		Urn: URN(token), Id: id, Properties: p.encode(state), Inputs: p.encode(inputs),
	})
	return resp.GetId(), kit.Decode(resp.GetProperties()), kit.Decode(resp.GetInputs()), err
}

// Delete deletes a resource.
func (p *Plugin) Delete(token, id string, state kit.Props) error {
	p.t.Helper()
	_, err := p.RPC.Delete(context.Background(), &pulumirpc.DeleteRequest{
		Urn: URN(token), Id: id, Properties: p.encode(state),
	})
	return err
}

// InitFailed returns what a failed operation leaves in the state; ok is false when it leaves nothing.
func InitFailed(err error) (detail *pulumirpc.ErrorResourceInitFailed, ok bool) {
	st, _ := status.FromError(err)
	for _, d := range st.Details() {
		if found, is := d.(*pulumirpc.ErrorResourceInitFailed); is {
			return found, true
		}
	}
	return nil, false
}

// API is a vendor's API that answers by a table and remembers what it was asked.
type API struct {
	*httptest.Server
	mu       sync.Mutex
	requests []string
	answers  map[string][]Answer
}

// Answer is one response. The last one of a route repeats.
type Answer struct {
	Status int
	Body   string
	Header map[string]string
}

// NewAPI starts an API. Routes are written like "GET /v1/servers/1".
func NewAPI(t *testing.T) *API {
	api := &API{answers: map[string][]Answer{}}
	api.Server = httptest.NewServer(http.HandlerFunc(api.serve))
	t.Cleanup(api.Close)
	return api
}

// On sets the answers of a route.
func (a *API) On(route string, answers ...Answer) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.answers[route] = answers
}

func (a *API) serve(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	a.mu.Lock()
	route := r.Method + " " + r.URL.Path
	line := route
	if r.URL.RawQuery != "" {
		line += "?" + r.URL.RawQuery
	}
	if len(body) > 0 {
		line += " " + strings.TrimSpace(string(body))
	}
	a.requests = append(a.requests, line)
	answer := Answer{Status: http.StatusNotFound, Body: `{"error":{"code":"not_found","message":"not found"},"success":false,"errors":[{"code":7003,"message":"not found"}],"message":"not found","status":404}`}
	if list := a.answers[route]; len(list) > 0 {
		answer = list[0]
		if len(list) > 1 {
			a.answers[route] = list[1:]
		}
	}
	a.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	for name, value := range answer.Header {
		w.Header().Set(name, value)
	}
	w.WriteHeader(answer.Status)
	_, _ = io.WriteString(w, answer.Body)
}

// Requests returns what was asked since the last call.
func (a *API) Requests() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	out := slices.Clone(a.requests)
	a.requests = nil
	return out
}

// WantRequests fails the test unless exactly these requests were sent since the last call.
func (a *API) WantRequests(t *testing.T, want ...string) {
	t.Helper()
	if got := a.Requests(); !slices.Equal(got, want) {
		t.Errorf("requests:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

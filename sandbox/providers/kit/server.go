// Package kit turns tables of resources into a Pulumi provider plugin: it checks and compares
// inputs by the resource's fields, keeps secrets wrapped, and leaves to each resource only the
// requests to its vendor.
package kit

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	pulumirpc "github.com/pulumi/pulumi/sdk/v3/proto/go"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/structpb"
)

// largestMessage is the engine's own limit for one gRPC message, in bytes.
const largestMessage = 400 << 20

// Serve runs the plugin until the engine ends it. The last argument of the command line is the
// engine's address; the port is printed as the engine expects.
func Serve[C any](provider Provider[C], args []string) error {
	engine := ""
	for _, arg := range args {
		if !strings.HasPrefix(arg, "-") && strings.Contains(arg, ":") {
			engine = arg
		}
	}
	log, err := newLogger(engine)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	s := newServer(provider, log)
	// Before the port is told: the engine may be done with the plugin at once.
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	go s.endOnSignal(signals)
	if engine != "" {
		go s.endWithParent(os.Getppid())
	}
	rpc := grpc.NewServer(grpc.MaxRecvMsgSize(largestMessage), grpc.MaxSendMsgSize(largestMessage))
	pulumirpc.RegisterResourceProviderServer(rpc, s)
	fmt.Printf("%d\n", listener.Addr().(*net.TCPAddr).Port)
	return rpc.Serve(listener)
}

type server[C any] struct {
	pulumirpc.UnimplementedResourceProviderServer
	provider Provider[C]
	log      *logger

	root    context.Context
	stop    context.CancelFunc
	running sync.WaitGroup

	client    C
	clientErr error
}

// NewServer is the plugin without a process around it, for tests. Its messages go nowhere.
func NewServer[C any](provider Provider[C]) pulumirpc.ResourceProviderServer {
	return newServer(provider, &logger{})
}

func newServer[C any](provider Provider[C], log *logger) *server[C] {
	root, stop := context.WithCancel(context.Background())
	return &server[C]{provider: provider, log: log, root: root, stop: stop,
		clientErr: fmt.Errorf("the %s provider was used before it was configured", provider.Name)}
}

// endOnSignal ends the plugin when the engine is done with it: it sends SIGINT, and waits.
func (s *server[C]) endOnSignal(signals <-chan os.Signal) {
	<-signals
	s.end(0)
}

// endWithParent ends the plugin after its engine died. An engine that was killed sends neither
// Cancel nor a signal, and a plugin that outlives it would go on changing things unseen.
func (s *server[C]) endWithParent(parent int) {
	for os.Getppid() == parent {
		time.Sleep(500 * time.Millisecond)
	}
	s.end(1)
}

// end stops the operations under way and ends the process once they have noticed.
func (s *server[C]) end(code int) {
	s.stop()
	done := make(chan struct{})
	go func() { s.running.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(3 * time.Second):
	}
	os.Exit(code)
}

// call starts an operation; the returned function ends it.
func (s *server[C]) call(ctx context.Context, urn string, seconds float64) (*Call[C], func()) {
	s.running.Add(1)
	ctx, cancel := context.WithCancel(ctx)
	if seconds > 0 {
		ctx, cancel = context.WithTimeout(ctx, time.Duration(seconds*float64(time.Second)))
	}
	unlink := context.AfterFunc(s.root, cancel)
	end := func() { unlink(); cancel(); s.running.Done() }
	return &Call[C]{Context: ctx, Client: s.client, URN: urn, log: s.log}, end
}

func (s *server[C]) resource(urn, token string) (*Resource[C], error) {
	if token == "" {
		token = urnType(urn)
	}
	i := slices.IndexFunc(s.provider.Resources, func(r Resource[C]) bool { return r.Token == token })
	if i < 0 {
		return nil, status.Errorf(codes.Unimplemented,
			"the stand-in for the %s provider does not know %s; install the official plugin %s %s to use it",
			s.provider.Name, token, s.provider.Name, s.provider.Version)
	}
	return &s.provider.Resources[i], nil
}

func urnType(urn string) string {
	parts := strings.SplitN(urn, "::", 4)
	if len(parts) < 4 {
		return ""
	}
	types := strings.Split(parts[2], "$")
	return types[len(types)-1]
}

func urnName(urn string) string {
	parts := strings.SplitN(urn, "::", 4)
	return parts[len(parts)-1]
}

func (s *server[C]) explain(err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, context.Canceled) {
		return status.Error(codes.Canceled, "cancelled")
	}
	if s.provider.Explain != nil {
		return s.provider.Explain(err)
	}
	return err
}

func (s *server[C]) Handshake(context.Context, *pulumirpc.ProviderHandshakeRequest) (*pulumirpc.ProviderHandshakeResponse, error) {
	return &pulumirpc.ProviderHandshakeResponse{AcceptSecrets: true}, nil
}

func (s *server[C]) GetPluginInfo(context.Context, *emptypb.Empty) (*pulumirpc.PluginInfo, error) {
	return &pulumirpc.PluginInfo{Version: s.provider.Version}, nil
}

func (s *server[C]) Attach(context.Context, *pulumirpc.PluginAttach) (*emptypb.Empty, error) {
	return &emptypb.Empty{}, nil
}

func (s *server[C]) Cancel(context.Context, *emptypb.Empty) (*emptypb.Empty, error) {
	s.stop()
	return &emptypb.Empty{}, nil
}

// GetSchema lists the tokens: enough for the engine, not for generating an SDK.
func (s *server[C]) GetSchema(context.Context, *pulumirpc.GetSchemaRequest) (*pulumirpc.GetSchemaResponse, error) {
	resources, functions := map[string]any{}, map[string]any{}
	for _, r := range s.provider.Resources {
		resources[r.Token] = map[string]any{}
	}
	for _, f := range s.provider.Functions {
		functions[f.Token] = map[string]any{}
	}
	schema, err := json.Marshal(map[string]any{
		"name": s.provider.Name, "version": s.provider.Version, "resources": resources, "functions": functions,
	})
	return &pulumirpc.GetSchemaResponse{Schema: string(schema)}, err
}

func (s *server[C]) CheckConfig(_ context.Context, req *pulumirpc.CheckRequest) (*pulumirpc.CheckResponse, error) {
	_, failures := checkObject(s.provider.Config, "", ownConfig(stripProps(Decode(req.GetNews()))))
	return &pulumirpc.CheckResponse{Inputs: req.GetNews(), Failures: checkFailures(failures)}, nil
}

// ownConfig leaves out what the engine adds to every provider's configuration.
func ownConfig(in Props) Props {
	out := maps.Clone(in)
	for _, key := range []string{"version", "pluginDownloadURL", "__internal"} {
		delete(out, key)
	}
	return out
}

func (s *server[C]) DiffConfig(_ context.Context, req *pulumirpc.DiffRequest) (*pulumirpc.DiffResponse, error) {
	olds, news := stripProps(Decode(req.GetOldInputs())), stripProps(Decode(req.GetNews()))
	return diffResponse(diff(s.provider.Config, olds, news), false), nil
}

func (s *server[C]) Configure(_ context.Context, req *pulumirpc.ConfigureRequest) (*pulumirpc.ConfigureResponse, error) {
	config := Props{}
	given := stripProps(Decode(req.GetArgs()))
	for _, f := range s.provider.Config {
		value := given[f.Name]
		if value == nil {
			if text, ok := req.GetVariables()[s.provider.Name+":config:"+f.Name]; ok {
				value = text
			}
		}
		for _, env := range f.Env {
			if text := os.Getenv(env); value == nil && text != "" {
				value = text
			}
		}
		if value == nil {
			value = f.Default
		}
		if value != nil {
			config[f.Name] = value
		}
	}
	if containsUnknown(map[string]any(config)) {
		// A preview may not know the configuration yet. It needs no client either.
		s.clientErr = fmt.Errorf("the configuration of the %s provider is not known yet", s.provider.Name)
	} else {
		checked, failures := checkObject(s.provider.Config, "", config)
		if len(failures) > 0 {
			return nil, status.Errorf(codes.InvalidArgument, "%s:%s: %s",
				s.provider.Name, failures[0].Property, failures[0].Reason)
		}
		if s.client, s.clientErr = s.provider.Connect(checked); s.clientErr != nil {
			return nil, status.Error(codes.InvalidArgument, s.clientErr.Error())
		}
	}
	return &pulumirpc.ConfigureResponse{AcceptSecrets: true, SupportsPreview: true}, nil
}

func (s *server[C]) Invoke(ctx context.Context, req *pulumirpc.InvokeRequest) (*pulumirpc.InvokeResponse, error) {
	i := slices.IndexFunc(s.provider.Functions, func(f Function[C]) bool { return f.Token == req.GetTok() })
	if i < 0 {
		return nil, status.Errorf(codes.Unimplemented,
			"the stand-in for the %s provider does not know the function %s", s.provider.Name, req.GetTok())
	}
	function := s.provider.Functions[i]
	args, failures := checkObject(function.Fields, "", stripProps(Decode(req.GetArgs())))
	if len(failures) > 0 {
		return &pulumirpc.InvokeResponse{Failures: checkFailures(failures)}, nil
	}
	if s.clientErr != nil {
		return nil, s.clientErr
	}
	call, end := s.call(ctx, "", 0)
	defer end()
	out, err := function.Invoke(call, args)
	if err != nil {
		return nil, fmt.Errorf("invocation of %s: %w", req.GetTok(), s.explain(err))
	}
	encoded, err := Encode(out)
	return &pulumirpc.InvokeResponse{Return: encoded}, err
}

func (s *server[C]) Check(_ context.Context, req *pulumirpc.CheckRequest) (*pulumirpc.CheckResponse, error) {
	r, err := s.resource(req.GetUrn(), req.GetType())
	if err != nil {
		return nil, err
	}
	rawNews := Decode(req.GetNews())
	inputs, failures := check(r.Fields, urnName(req.GetUrn()), req.GetRandomSeed(),
		stripProps(Decode(req.GetOlds())), stripProps(rawNews))
	if r.Check != nil && len(failures) == 0 {
		failures = r.Check(inputs)
	}
	encoded, err := Encode(annotateProps(inputs, rawNews))
	return &pulumirpc.CheckResponse{Inputs: encoded, Failures: checkFailures(failures)}, err
}

func (s *server[C]) Diff(_ context.Context, req *pulumirpc.DiffRequest) (*pulumirpc.DiffResponse, error) {
	r, err := s.resource(req.GetUrn(), req.GetType())
	if err != nil {
		return nil, err
	}
	state, news := stripProps(Decode(req.GetOlds())), stripProps(Decode(req.GetNews()))
	changes := s.changes(r, state, news)
	// A replacement under a fixed name cannot exist beside the old one.
	named := slices.ContainsFunc(r.Fields, func(f Field) bool {
		return f.Autoname > 0 && news.Has(f.Name) && state[f.Name] == news[f.Name] &&
			!slices.Contains(news.Strings(defaultsKey), f.Name)
	})
	return diffResponse(changes, named), nil
}

func (s *server[C]) changes(r *Resource[C], state, news Props) []Change {
	changes := diff(r.Fields, state, news)
	for i, c := range changes {
		if !c.Replace && (r.Update == nil || (r.ReplaceWhen != nil && r.ReplaceWhen(state, news, c))) {
			changes[i].Replace, changes[i].Kind = true, replaceKind(c.Kind)
		}
	}
	return changes
}

func (s *server[C]) Create(ctx context.Context, req *pulumirpc.CreateRequest) (*pulumirpc.CreateResponse, error) {
	r, err := s.resource(req.GetUrn(), req.GetType())
	if err != nil {
		return nil, err
	}
	raw := Decode(req.GetProperties())
	inputs := stripProps(raw)
	plan := planned(r.Fields, nil, inputs)
	if r.Plan != nil {
		r.Plan(nil, inputs, plan)
	}
	if req.GetPreview() {
		properties, err := s.outputs(r, plan, raw)
		return &pulumirpc.CreateResponse{Properties: properties}, err
	}
	if s.clientErr != nil {
		return nil, s.clientErr
	}
	call, end := s.call(ctx, req.GetUrn(), req.GetTimeout())
	defer end()
	result, err := r.Create(call, inputs)
	if err != nil && result.ID == "" {
		return nil, s.explain(err)
	}
	properties, err := s.settle(r, call, result, err, plan, inputs, raw)
	if err != nil {
		return nil, s.initFailed(err, result.ID, properties, req.GetProperties())
	}
	return &pulumirpc.CreateResponse{Id: result.ID, Properties: properties}, nil
}

// settle finds out what the API made of a creation or an update.
func (s *server[C]) settle(
	r *Resource[C], call *Call[C], result Result, failed error, plan, inputs Props, raws ...map[string]any,
) (*structpb.Struct, error) {
	live := result.Live
	if live == nil {
		reader := call
		if failed != nil && call.Err() != nil {
			// The operation was cut off: give the last look its own short time.
			ctx, cancel := context.WithTimeout(context.WithoutCancel(call.Context), 10*time.Second)
			defer cancel()
			copied := *call
			copied.Context = ctx
			reader = &copied
		}
		read, err := r.Read(reader, result.ID, plan)
		switch {
		case err != nil && failed == nil:
			failed = fmt.Errorf("it was made, but reading it back failed: %w", err)
		case err == nil && read.Live == nil && failed == nil:
			failed = fmt.Errorf("it was made as %s, but is gone already", result.ID)
		}
		live = read.Live
	}
	properties, err := s.outputs(r, observed(r.Fields, plan, live, inputs), raws...)
	if err != nil {
		return nil, err
	}
	return properties, failed
}

// initFailed tells the engine to keep the resource although the operation failed.
func (s *server[C]) initFailed(err error, id string, properties, inputs *structpb.Struct) error {
	explained := s.explain(err)
	st := status.New(codes.Unknown, explained.Error())
	detailed, detailErr := st.WithDetails(&pulumirpc.ErrorResourceInitFailed{
		Id: id, Properties: properties, Inputs: inputs, Reasons: []string{explained.Error()},
	})
	if detailErr != nil {
		return explained
	}
	return detailed.Err()
}

func (s *server[C]) Read(ctx context.Context, req *pulumirpc.ReadRequest) (*pulumirpc.ReadResponse, error) {
	r, err := s.resource(req.GetUrn(), req.GetType())
	if err != nil {
		return nil, err
	}
	if r.Opaque {
		return &pulumirpc.ReadResponse{Id: req.GetId(), Properties: req.GetProperties(), Inputs: req.GetInputs()}, nil
	}
	if s.clientErr != nil {
		return nil, s.clientErr
	}
	rawState, rawInputs := Decode(req.GetProperties()), Decode(req.GetInputs())
	state, inputs := stripProps(rawState), stripProps(rawInputs)
	call, end := s.call(ctx, req.GetUrn(), req.GetTimeout())
	defer end()
	result, err := r.Read(call, req.GetId(), state)
	if err != nil {
		return nil, s.explain(err)
	}
	if result.Live == nil {
		return &pulumirpc.ReadResponse{}, nil
	}
	id := req.GetId()
	if result.ID != "" {
		id = result.ID
	}
	base := state
	if len(state) == 0 {
		base = Props{}
		for _, f := range r.Fields {
			base[f.Name] = f.Default
		}
	}
	now := observed(r.Fields, base, result.Live, inputs)
	properties, err := s.outputs(r, now, rawState, rawInputs)
	if err != nil {
		return nil, err
	}
	encodedInputs, err := Encode(annotateProps(liveInputs(r.Fields, inputs, now), rawInputs))
	return &pulumirpc.ReadResponse{Id: id, Properties: properties, Inputs: encodedInputs}, err
}

func (s *server[C]) Update(ctx context.Context, req *pulumirpc.UpdateRequest) (*pulumirpc.UpdateResponse, error) {
	r, err := s.resource(req.GetUrn(), req.GetType())
	if err != nil {
		return nil, err
	}
	rawState, rawNews := Decode(req.GetOlds()), Decode(req.GetNews())
	state, inputs := stripProps(rawState), stripProps(rawNews)
	plan := planned(r.Fields, state, inputs)
	if r.Plan != nil {
		r.Plan(state, inputs, plan)
	}
	if req.GetPreview() {
		properties, err := s.outputs(r, plan, rawNews)
		return &pulumirpc.UpdateResponse{Properties: properties}, err
	}
	if s.clientErr != nil {
		return nil, s.clientErr
	}
	changes := s.changes(r, state, inputs)
	changed := func(field string) bool {
		return slices.ContainsFunc(changes, func(c Change) bool { return c.Field == field })
	}
	call, end := s.call(ctx, req.GetUrn(), req.GetTimeout())
	defer end()
	call.OldInputs = stripProps(Decode(req.GetOldInputs()))
	result := Result{}
	if r.Update != nil {
		result, err = r.Update(call, req.GetId(), state, inputs, changed)
	}
	result.ID = req.GetId()
	if err != nil && s.provider.Gone != nil && s.provider.Gone(err) {
		return nil, fmt.Errorf("%w; it was deleted outside of this program: run `pulumi refresh`, then `pulumi up`", s.explain(err))
	}
	base, raws := plan, []map[string]any{rawNews}
	if err != nil {
		if r.Opaque {
			return nil, s.explain(err) // nothing to look at: the state stays as it was
		}
		base, raws = state, append(raws, rawState)
	}
	properties, err := s.settle(r, call, result, err, base, inputs, raws...)
	if err != nil {
		return nil, s.initFailed(err, req.GetId(), properties, req.GetNews())
	}
	return &pulumirpc.UpdateResponse{Properties: properties}, nil
}

func (s *server[C]) Delete(ctx context.Context, req *pulumirpc.DeleteRequest) (*emptypb.Empty, error) {
	r, err := s.resource(req.GetUrn(), req.GetType())
	if err != nil {
		return nil, err
	}
	if s.clientErr != nil {
		return nil, s.clientErr
	}
	call, end := s.call(ctx, req.GetUrn(), req.GetTimeout())
	defer end()
	err = r.Delete(call, req.GetId(), stripProps(Decode(req.GetProperties())))
	if err != nil && (s.provider.Gone == nil || !s.provider.Gone(err)) {
		return nil, s.explain(err)
	}
	return &emptypb.Empty{}, nil
}

// outputs encodes a state with its secrets: those that came in as secret inputs, those that the
// table marks, and those that depend on a secret input.
func (s *server[C]) outputs(r *Resource[C], state Props, raws ...map[string]any) (*structpb.Struct, error) {
	out := annotateProps(state, raws...)
	for _, f := range r.Fields {
		if _, wrapped := out[f.Name].(Secret); f.Secret && !wrapped && out[f.Name] != nil {
			out[f.Name] = Secret{out[f.Name]}
		}
	}
	for output, inputs := range r.SecretOutputs {
		for _, input := range inputs {
			for _, raw := range raws {
				if _, wrapped := out[output].(Secret); !wrapped && out[output] != nil && containsSecret(raw[input]) {
					out[output] = Secret{out[output]}
				}
			}
		}
	}
	return Encode(out)
}

func checkFailures(failures []Failure) []*pulumirpc.CheckFailure {
	out := make([]*pulumirpc.CheckFailure, len(failures))
	for i, f := range failures {
		out[i] = &pulumirpc.CheckFailure{Property: f.Property, Reason: f.Reason}
	}
	return out
}

func diffResponse(changes []Change, named bool) *pulumirpc.DiffResponse {
	out := &pulumirpc.DiffResponse{
		Changes:         pulumirpc.DiffResponse_DIFF_NONE,
		HasDetailedDiff: true,
		DetailedDiff:    map[string]*pulumirpc.PropertyDiff{},
	}
	for _, c := range changes {
		out.Changes = pulumirpc.DiffResponse_DIFF_SOME
		out.DetailedDiff[c.Path] = &pulumirpc.PropertyDiff{Kind: c.Kind}
		if !slices.Contains(out.Diffs, c.Field) {
			out.Diffs = append(out.Diffs, c.Field)
		}
		if c.Replace && !slices.Contains(out.Replaces, c.Path) {
			out.Replaces = append(out.Replaces, c.Path)
		}
	}
	out.DeleteBeforeReplace = named && len(out.Replaces) > 0
	return out
}

package kit_test

import (
	"context"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	pulumirpc "github.com/pulumi/pulumi/sdk/v3/proto/go"

	"overlord/sandbox/providers/kit"
	"overlord/sandbox/providers/kit/kittest"
)

const token = "toy:index/thing:Thing"

// toys is a vendor with one kind of object, kept in memory.
type toys struct {
	objects map[string]kit.Props
	failing error // what a creation runs into after the object is made
	refused error // what an update runs into before it changes anything
	started chan struct{}
}

var errGone = errors.New("gone")

func toyProvider(vendor *toys) kit.Provider[*toys] {
	return kit.Provider[*toys]{
		Name: "toy", Version: "1.0.0",
		Connect: func(kit.Props) (*toys, error) { return vendor, nil },
		Gone:    func(err error) bool { return errors.Is(err, errGone) },
		Resources: []kit.Resource[*toys]{{
			Token: token,
			Fields: []kit.Field{
				{Name: "name", Type: kit.String, Autoname: 20},
				{Name: "size", Type: kit.Number, Required: true},
				{Name: "place", Type: kit.String, Computed: true, Replace: true},
				{Name: "quiet", Type: kit.Bool, Default: false},
				{Name: "labels", Type: kit.Map},
				{Name: "password", Type: kit.String},
				{Name: "rules", Type: kit.Set, Elem: []kit.Field{
					{Name: "port", Type: kit.String, Required: true},
					{Name: "sources", Type: kit.Set, Elem: kit.Items(kit.String)},
				}},
				{Name: "shape", Type: kit.Any, Shaped: true},
				{Name: "address", Type: kit.String, Output: true},
				{Name: "token", Type: kit.String, Output: true, Secret: true},
			},
			SecretOutputs: map[string][]string{"address": {"password"}},
			Create: func(c *kit.Call[*toys], in kit.Props) (kit.Result, error) {
				if c.Client.started != nil {
					close(c.Client.started)
					<-c.Done()
					return kit.Result{}, c.Err()
				}
				live := kit.Props{"address": "192.0.2.1", "token": "t", "place": "here", "quiet": false}
				for name, value := range in {
					live[name] = value
				}
				delete(live, "__defaults")
				c.Client.objects["7"] = live
				return kit.Result{ID: "7"}, c.Client.failing
			},
			Read: func(c *kit.Call[*toys], id string, _ kit.Props) (kit.Result, error) {
				if found, ok := c.Client.objects[id]; ok {
					return kit.Result{ID: id, Live: found}, nil
				}
				return kit.Result{}, nil
			},
			Update: func(c *kit.Call[*toys], id string, _, in kit.Props, changed func(string) bool) (kit.Result, error) {
				if c.Client.refused != nil {
					return kit.Result{}, c.Client.refused
				}
				for name := range in {
					if changed(name) {
						c.Client.objects[id][name] = in[name]
					}
				}
				return kit.Result{}, c.Client.failing
			},
			Delete: func(c *kit.Call[*toys], id string, _ kit.Props) error {
				if _, ok := c.Client.objects[id]; !ok {
					return errGone
				}
				delete(c.Client.objects, id)
				return nil
			},
		}},
	}
}

func start(t *testing.T) (*toys, *kittest.Plugin) {
	vendor := &toys{objects: map[string]kit.Props{}}
	return vendor, kittest.Start(t, toyProvider(vendor), nil)
}

func rule(port string, sources ...any) map[string]any {
	return map[string]any{"port": port, "sources": sources}
}

func TestMistakesInInputsAreAllReportedByName(t *testing.T) {
	_, p := start(t)
	_, failures := p.Check(token, kit.Props{"labels": "no map", "colour": "red", "rules": []any{map[string]any{}}})
	text := strings.Join(failures, "\n")
	for _, property := range []string{"size: ", "labels: ", "colour: ", "rules[0].port: "} {
		if !strings.Contains(text, property) {
			t.Errorf("no failure for %q in:\n%s", property, text)
		}
	}
}

func TestDefaultsAndGeneratedNamesAreFilledInAndListed(t *testing.T) {
	_, p := start(t)
	inputs := p.Inputs(token, kit.Props{"size": "5"})
	if inputs["size"] != 5.0 || inputs["quiet"] != false {
		t.Errorf("inputs: %v", inputs)
	}
	if name := inputs.String("name"); !strings.HasPrefix(name, "it-") || len(name) != len("it-")+7 {
		t.Errorf("generated name: %q", name)
	}
	if got := inputs.Strings("__defaults"); !reflect.DeepEqual(got, []string{"name", "quiet"}) {
		t.Errorf("__defaults: %v", got)
	}
	if again := p.Inputs(token, kit.Props{"size": 5.0}); again["name"] != inputs["name"] {
		t.Errorf("the name differs between preview and update: %v, %v", again["name"], inputs["name"])
	}
}

func TestDiffNamesWhatChangesAndWhatReplaces(t *testing.T) {
	_, p := start(t)
	state := kit.Props{
		"name": "a", "size": 1.0, "place": "here", "labels": map[string]any{"role": "x", "b.c": "d"},
		"rules": []any{rule("80", "a", "b"), rule("443", "c")}, "address": "192.0.2.1",
	}
	base := func(changes kit.Props) kit.Props {
		out := kit.Props{"name": "a", "size": 1.0, "labels": state["labels"], "rules": state["rules"]}
		for name, value := range changes {
			if value == nil {
				delete(out, name)
				continue
			}
			out[name] = value
		}
		return out
	}
	for name, c := range map[string]struct {
		changes kit.Props
		want    map[string]string
	}{
		"nothing":             {nil, map[string]string{}},
		"another order":       {kit.Props{"rules": []any{rule("443", "c"), rule("80", "b", "a")}}, map[string]string{}},
		"a scalar":            {kit.Props{"size": 2.0}, map[string]string{"size": "UPDATE"}},
		"one label":           {kit.Props{"labels": map[string]any{"role": "y", "b.c": "d"}}, map[string]string{"labels.role": "UPDATE"}},
		"a label with a dot":  {kit.Props{"labels": map[string]any{"role": "x"}}, map[string]string{`labels["b.c"]`: "DELETE"}},
		"all labels gone":     {kit.Props{"labels": nil}, map[string]string{"labels": "DELETE"}},
		"a rule":              {kit.Props{"rules": []any{rule("80", "a", "b")}}, map[string]string{"rules": "UPDATE"}},
		"replace-only":        {kit.Props{"place": "there"}, map[string]string{"place": "UPDATE_REPLACE"}},
		"not known yet":       {kit.Props{"place": kit.Unknown{}}, map[string]string{"place": "UPDATE_REPLACE"}},
		"the default spelled": {kit.Props{"quiet": false}, map[string]string{}},
	} {
		t.Run(name, func(t *testing.T) {
			got, resp := p.Diff(token, state, base(c.changes))
			if !reflect.DeepEqual(got, c.want) {
				t.Errorf("got %v, want %v", got, c.want)
			}
			if replaced := strings.Contains(name, "replace") || strings.Contains(name, "not known"); replaced != (len(resp.GetReplaces()) > 0) {
				t.Errorf("replaces: %v", resp.GetReplaces())
			}
		})
	}
}

func TestAReplacementUnderAFixedNameDeletesFirst(t *testing.T) {
	_, p := start(t)
	state := kit.Props{"name": "a", "size": 1.0, "place": "here"}
	if _, resp := p.Diff(token, state, kit.Props{"name": "a", "size": 1.0, "place": "there"}); !resp.GetDeleteBeforeReplace() {
		t.Error("a fixed name must be free before it is taken again")
	}
	generated := kit.Props{"name": p.Inputs(token, kit.Props{"size": 1.0})["name"], "size": 1.0, "place": "here"}
	if _, resp := p.Diff(token, generated, kit.Props{"size": 1.0, "place": "there"}); resp.GetDeleteBeforeReplace() {
		t.Error("a generated name needs no deletion first")
	}
}

func TestAPreviewShowsWhatTheAPIChoosesAsUnknown(t *testing.T) {
	_, p := start(t)
	got := p.Preview(token, kit.Props{"size": 1.0})
	if got["address"] != (kit.Unknown{}) || got["place"] != (kit.Unknown{}) || got["size"] != 1.0 {
		t.Errorf("preview: %v", got)
	}
}

func TestSecretsStaySecret(t *testing.T) {
	_, p := start(t)
	_, state, err := p.Create(token, kit.Props{
		"size": 1.0, "password": kit.Secret{Value: "p"}, "labels": map[string]any{"a": kit.Secret{Value: "b"}, "c": "d"},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := kit.Props{
		"password": kit.Secret{Value: "p"}, "token": kit.Secret{Value: "t"}, "address": kit.Secret{Value: "192.0.2.1"},
		"labels": map[string]any{"a": kit.Secret{Value: "b"}, "c": "d"},
	}
	for name, value := range want {
		if !reflect.DeepEqual(state[name], value) {
			t.Errorf("%s: got %v, want %v", name, state[name], value)
		}
	}
}

func TestACreationThatFailsHalfWayKeepsItsID(t *testing.T) {
	vendor, p := start(t)
	vendor.failing = errors.New("the second step failed")
	_, _, err := p.Create(token, kit.Props{"size": 1.0})
	detail, ok := kittest.InitFailed(err)
	if !ok || detail.GetId() != "7" {
		t.Fatalf("the id is lost: %v", err)
	}
	if state := kit.Props(kit.Decode(detail.GetProperties())); state.String("address") != "192.0.2.1" {
		t.Errorf("the state holds not what exists: %v", state)
	}
	if !strings.Contains(err.Error(), "the second step failed") {
		t.Errorf("the reason is lost: %v", err)
	}
}

func TestAnUpdateThatFailsHalfWayRecordsWhatExists(t *testing.T) {
	vendor, p := start(t)
	id, state, err := p.Create(token, kit.Props{"size": 1.0, "name": "a"})
	if err != nil {
		t.Fatal(err)
	}
	vendor.failing = errors.New("the second step failed")
	_, err = p.Update(token, id, state, kit.Props{"size": 2.0, "name": "a"})
	detail, ok := kittest.InitFailed(err)
	if !ok || kit.Props(kit.Decode(detail.GetProperties())).Int("size") != 2 {
		t.Fatalf("the state does not tell what exists: %v", err)
	}
}

func TestARefusedUpdateIsTriedAgain(t *testing.T) {
	vendor, p := start(t)
	id, state, err := p.Create(token, kit.Props{"size": 1.0, "name": "a", "password": "old"})
	if err != nil {
		t.Fatal(err)
	}
	delete(vendor.objects[id], "password") // the API never tells it
	vendor.refused = errors.New("refused")
	wanted := kit.Props{"size": 1.0, "name": "a", "password": "new"}
	_, err = p.Update(token, id, state, wanted)
	detail, ok := kittest.InitFailed(err)
	if !ok {
		t.Fatalf("error: %v", err)
	}
	if changes, _ := p.Diff(token, kit.Decode(detail.GetProperties()), wanted); len(changes) != 1 {
		t.Errorf("the state claims a change that was refused; changes left: %v", changes)
	}
}

func TestARefreshSeesDriftAndTheNextDiffPutsItRight(t *testing.T) {
	vendor, p := start(t)
	inputs := kit.Props{"size": 1.0, "name": "a", "rules": []any{rule("80", "a"), rule("443", "b")},
		"shape": map[string]any{"on": true}}
	id, state, err := p.Create(token, inputs)
	if err != nil {
		t.Fatal(err)
	}
	vendor.objects[id]["rules"] = []any{rule("443", "b")}
	vendor.objects[id]["shape"] = map[string]any{"on": true, "filled": "in"}
	_, state, live, err := p.Read(token, id, state, p.Inputs(token, inputs))
	if err != nil {
		t.Fatal(err)
	}
	if len(state.Objects("rules")) != 1 || len(live.Objects("rules")) != 1 {
		t.Errorf("the drift is not seen: %v", state["rules"])
	}
	if changes, _ := p.Diff(token, state, inputs); !reflect.DeepEqual(changes, map[string]string{"rules": "UPDATE"}) {
		t.Errorf("changes after the refresh: %v", changes)
	}
}

func TestARefreshWithoutDriftChangesNothing(t *testing.T) {
	vendor, p := start(t)
	inputs := p.Inputs(token, kit.Props{"size": 1.0, "rules": []any{rule("80", "a"), rule("443", "b")}})
	id, state, err := p.Create(token, inputs)
	if err != nil {
		t.Fatal(err)
	}
	vendor.objects[id]["rules"] = []any{rule("443", "b"), rule("80", "a")} // the API's own order
	_, newState, newInputs, err := p.Read(token, id, state, inputs)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(newState, state) || !reflect.DeepEqual(newInputs, inputs) {
		t.Errorf("state %v => %v\ninputs %v => %v", state, newState, inputs, newInputs)
	}
}

func TestAResourceThatIsGoneHasNoID(t *testing.T) {
	_, p := start(t)
	if id, _, _, err := p.Read(token, "9", kit.Props{"size": 1.0}, kit.Props{"size": 1.0}); err != nil || id != "" {
		t.Errorf("id %q, error %v", id, err)
	}
	if err := p.Delete(token, "9", kit.Props{}); err != nil {
		t.Errorf("deleting what is gone is no error: %v", err)
	}
}

func TestAnImportReadsInputsThatDiffNoFurther(t *testing.T) {
	vendor, p := start(t)
	vendor.objects["7"] = kit.Props{"name": "a", "size": 3.0, "place": "here", "address": "192.0.2.9"}
	id, state, inputs, err := p.Read(token, "7", nil, nil)
	if err != nil || id != "7" {
		t.Fatalf("id %q, error %v", id, err)
	}
	delete(inputs, "__defaults")
	if changes, _ := p.Diff(token, state, inputs); len(changes) > 0 {
		t.Errorf("an imported resource differs from its own inputs: %v", changes)
	}
}

func TestCancelEndsAnOperationUnderWay(t *testing.T) {
	vendor, p := start(t)
	vendor.started = make(chan struct{})
	ended := make(chan error, 1)
	go func() {
		_, _, err := p.Create(token, kit.Props{"size": 1.0})
		ended <- err
	}()
	<-vendor.started
	if _, err := p.RPC.Cancel(context.Background(), nil); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-ended:
		if err == nil {
			t.Error("a cancelled operation must not look successful")
		}
	case <-time.After(5 * time.Second):
		t.Fatal("the operation goes on")
	}
}

func TestAnUnknownResourceNamesTheOfficialPlugin(t *testing.T) {
	_, p := start(t)
	_, err := p.RPC.Check(context.Background(), &pulumirpc.CheckRequest{Urn: kittest.URN("toy:index/other:Other")})
	if err == nil || !strings.Contains(err.Error(), "official plugin") {
		t.Errorf("error: %v", err)
	}
}

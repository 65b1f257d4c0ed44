package tailscale_test

import (
	"crypto/rand"
	"encoding/hex"
	"net/http"
	"strings"
	"testing"

	"overlord/sandbox/providers/kit"
	"overlord/sandbox/providers/kit/kittest"
	"overlord/sandbox/providers/tailscale"
)

const (
	keyToken = "tailscale:index/tailnetKey:TailnetKey"
	aclToken = "tailscale:index/acl:Acl"
	key      = `"id":"k1","description":"vps 01","expirySeconds":3600,"created":"2026-01-01T00:00:00Z","expires":"2026-01-01T01:00:00Z",
		"capabilities":{"devices":{"create":{"reusable":false,"ephemeral":false,"preauthorized":true,"tags":["tag:overlord"]}}}`
)

func start(t *testing.T) (*kittest.API, *kittest.Plugin) {
	var apiKey [20]byte
	_, _ = rand.Read(apiKey[:])
	api := kittest.NewAPI(t)
	return api, kittest.Start(t, tailscale.Provider(), kit.Props{
		"apiKey": hex.EncodeToString(apiKey[:]), "baseUrl": api.URL, "tailnet": "net",
	})
}

func ok(body string) kittest.Answer { return kittest.Answer{Status: http.StatusOK, Body: body} }

var keyInputs = kit.Props{
	"preauthorized": true, "reusable": false, "ephemeral": false, "expiry": 3600.0, "description": "vps 01",
	"tags": []any{"tag:overlord"}, "recreateIfInvalid": "never",
}

func TestAKeyIsASecretThatOnlyItsCreationTells(t *testing.T) {
	api, p := start(t)
	api.On("POST /api/v2/tailnet/net/keys", ok(`{`+key+`,"key":"value"}`))
	api.On("GET /api/v2/tailnet/net/keys/k1", ok(`{`+key+`}`))
	id, state, err := p.Create(keyToken, keyInputs)
	if err != nil || id != "k1" || state["key"] != (kit.Secret{Value: "value"}) {
		t.Fatalf("id %q, state %v, error %v", id, state, err)
	}
	if _, again, _, err := p.Read(keyToken, id, state, keyInputs); err != nil || again["key"] != (kit.Secret{Value: "value"}) {
		t.Errorf("a refresh loses the key: %v, %v", again["key"], err)
	}
	if err := p.Delete(keyToken, id, state); err != nil {
		t.Errorf("deleting a key that is gone: %v", err)
	}
	api.WantRequests(t,
		`POST /api/v2/tailnet/net/keys {"capabilities":{"devices":{"create":{"reusable":false,"ephemeral":false,"tags":["tag:overlord"],"preauthorized":true}}},"expirySeconds":3600,"description":"vps 01"}`,
		"GET /api/v2/tailnet/net/keys/k1",
		"DELETE /api/v2/tailnet/net/keys/k1",
	)
}

func TestAnExpiredKeyIsMadeAnewOnlyWhereAskedFor(t *testing.T) {
	for _, c := range []struct {
		reusable bool
		recreate any
		answer   kittest.Answer
		gone     bool
	}{
		{false, "never", ok(`{` + key + `,"invalid":true}`), false},
		{false, nil, ok(`{` + key + `,"invalid":true}`), false},
		{false, "always", ok(`{` + key + `,"invalid":true}`), true},
		{true, nil, ok(`{` + key + `,"invalid":true}`), true},
		{true, "never", ok(`{` + key + `,"invalid":true}`), false},
		{false, "never", kittest.Answer{Status: 404, Body: `{"message":"not found"}`}, false},
		{false, "always", kittest.Answer{Status: 404, Body: `{"message":"not found"}`}, true},
	} {
		api, p := start(t)
		api.On("GET /api/v2/tailnet/net/keys/k1", c.answer)
		state := kit.Props{"reusable": c.reusable, "recreateIfInvalid": c.recreate, "key": kit.Secret{Value: "value"}}
		id, kept, _, err := p.Read(keyToken, "k1", state, keyInputs)
		if err != nil || (id == "") != c.gone {
			t.Errorf("reusable %v, recreate %v, %d: id %q, error %v", c.reusable, c.recreate, c.answer.Status, id, err)
		}
		if !c.gone && kept["invalid"] != true {
			t.Errorf("the state does not tell that the key is invalid: %v", kept)
		}
	}
}

func TestAnyChangeOfAKeyReplacesIt(t *testing.T) {
	_, p := start(t)
	state := kit.Props{"preauthorized": true, "expiry": 3600.0, "description": "vps 01", "tags": []any{"tag:overlord"}, "recreateIfInvalid": "never"}
	changed := kit.Props{}
	for name, value := range keyInputs {
		changed[name] = value
	}
	changed["expiry"] = 7200.0
	if changes, _ := p.Diff(keyToken, state, changed); changes["expiry"] != "UPDATE_REPLACE" || len(changes) != 1 {
		t.Errorf("changes: %v", changes)
	}
}

const policy = "// who\n{\"acls\": [],}"

func TestThePolicyIsPostedAsWritten(t *testing.T) {
	api, p := start(t)
	api.On("POST /api/v2/tailnet/net/acl", ok(`{}`))
	api.On("GET /api/v2/tailnet/net/acl", ok(`{"acls":[]}`))
	inputs := kit.Props{"acl": policy, "overwriteExistingContent": true}
	id, state, err := p.Create(aclToken, inputs)
	if err != nil || id != "acl" {
		t.Fatalf("id %q, error %v", id, err)
	}
	// The API may give it back without comments: that is no drift.
	_, state, live, err := p.Read(aclToken, id, state, inputs)
	if err != nil || live["acl"] != policy {
		t.Errorf("inputs %v, error %v", live, err)
	}
	if changes, _ := p.Diff(aclToken, state, inputs); len(changes) > 0 {
		t.Errorf("changes: %v", changes)
	}
	api.WantRequests(t, "POST /api/v2/tailnet/net/acl "+policy, "GET /api/v2/tailnet/net/acl")
}

func TestAPolicyOfSomebodyElseIsNotOverwritten(t *testing.T) {
	api, p := start(t)
	api.On("POST /api/v2/tailnet/net/acl", kittest.Answer{Status: http.StatusPreconditionFailed, Body: `{"message":"precondition failed, invalid old hash"}`})
	if _, _, err := p.Create(aclToken, kit.Props{"acl": policy}); err == nil || !strings.Contains(err.Error(), "overwriteExistingContent") {
		t.Errorf("error: %v", err)
	}
}

func TestABrokenPolicyIsFoundBeforeItIsSent(t *testing.T) {
	_, p := start(t)
	if _, failures := p.Check(aclToken, kit.Props{"acl": "{"}); len(failures) != 1 || !strings.HasPrefix(failures[0], "acl: ") {
		t.Errorf("failures: %v", failures)
	}
}

func TestAMissingAPIKeyIsNamed(t *testing.T) {
	if _, err := tailscale.Provider().Connect(kit.Props{"baseUrl": "http://127.0.0.1"}); err == nil || !strings.Contains(err.Error(), "TAILSCALE_API_KEY") {
		t.Errorf("error: %v", err)
	}
}

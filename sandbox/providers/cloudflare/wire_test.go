package cloudflare_test

import (
	"crypto/rand"
	"encoding/hex"
	"net/http"
	"strings"
	"testing"

	"overlord/sandbox/providers/cloudflare"
	"overlord/sandbox/providers/kit"
	"overlord/sandbox/providers/kit/kittest"
)

const base = "/client/v4"

func start(t *testing.T) (*kittest.API, *kittest.Plugin) {
	var token [20]byte
	_, _ = rand.Read(token[:])
	api := kittest.NewAPI(t)
	return api, kittest.Start(t, cloudflare.Provider(), kit.Props{
		"apiToken": hex.EncodeToString(token[:]), "baseUrl": api.URL + base,
	})
}

func result(body string) kittest.Answer {
	return kittest.Answer{Status: http.StatusOK, Body: `{"success":true,"errors":[],"messages":[],"result":` + body + `}`}
}

func refused(status, code, message string) kittest.Answer {
	statuses := map[string]int{"400": 400, "403": 403, "429": 429, "500": 500}
	return kittest.Answer{Status: statuses[status], Body: `{"success":false,"errors":[{"code":` + code + `,"message":"` + message + `"}],"result":null}`}
}

const (
	recordToken = "cloudflare:index/dnsRecord:DnsRecord"
	record      = `{"id":"r1","name":"vps-01.example.com","type":"A","content":"192.0.2.10","ttl":60,"proxied":false,
		"comment":"node","settings":{},"tags":[],"proxiable":true,"created_on":"2026-01-01T00:00:00Z","modified_on":"2026-01-01T00:00:00Z"}`
)

var recordInputs = kit.Props{
	"zoneId": "Z", "name": "vps-01.example.com", "type": "A", "content": "192.0.2.10", "ttl": 60.0, "proxied": false, "comment": "node",
}

func with(in kit.Props, name string, value any) kit.Props {
	out := kit.Props{}
	for key, old := range in {
		out[key] = old
	}
	out[name] = value
	return out
}

func TestARecordIsMadeReadReplacedAndDeleted(t *testing.T) {
	api, p := start(t)
	api.On("POST "+base+"/zones/Z/dns_records", result(record))
	api.On("GET "+base+"/zones/Z/dns_records/r1", result(record))
	api.On("PUT "+base+"/zones/Z/dns_records/r1", result(strings.Replace(record, "node", "other", 1)))
	api.On("DELETE "+base+"/zones/Z/dns_records/r1", result(`{"id":"r1"}`))
	id, state, err := p.Create(recordToken, recordInputs)
	if err != nil || id != "r1" || state["proxiable"] != true {
		t.Fatalf("id %q, state %v, error %v", id, state, err)
	}
	if changes, _ := p.Diff(recordToken, state, recordInputs); len(changes) > 0 {
		t.Errorf("changes: %v", changes)
	}
	if id, _, _, err := p.Read(recordToken, "r1", state, recordInputs); err != nil || id != "r1" {
		t.Errorf("id %q, error %v", id, err)
	}
	state, err = p.Update(recordToken, "r1", state, with(recordInputs, "comment", "other"))
	if err != nil || state["comment"] != "other" {
		t.Errorf("state %v, error %v", state, err)
	}
	if err := p.Delete(recordToken, "r1", state); err != nil {
		t.Error(err)
	}
	api.WantRequests(t,
		`POST /client/v4/zones/Z/dns_records {"comment":"node","content":"192.0.2.10","name":"vps-01.example.com","proxied":false,"ttl":60,"type":"A"}`,
		"GET /client/v4/zones/Z/dns_records/r1",
		// Every field, also those that the program left to the API.
		`PUT /client/v4/zones/Z/dns_records/r1 {"comment":"other","content":"192.0.2.10","name":"vps-01.example.com","proxied":false,"settings":{},"tags":[],"ttl":60,"type":"A"}`,
		"DELETE /client/v4/zones/Z/dns_records/r1",
	)
}

func TestACAARecordSendsItsDataAndNotTheContentMadeOfIt(t *testing.T) {
	api, p := start(t)
	api.On("POST "+base+"/zones/Z/dns_records", result(`{"id":"r2","name":"example.com","type":"CAA","ttl":3600,
		"content":"0 issue \"ca.example\"","data":{"flags":0,"tag":"issue","value":"ca.example"}}`))
	inputs := kit.Props{"zoneId": "Z", "name": "example.com", "type": "CAA", "ttl": 3600.0,
		"data": map[string]any{"flags": 0.0, "tag": "issue", "value": "ca.example"}}
	_, state, err := p.Create(recordToken, inputs)
	if err != nil {
		t.Fatal(err)
	}
	if changes, _ := p.Diff(recordToken, state, inputs); len(changes) > 0 {
		t.Errorf("changes: %v", changes)
	}
	api.WantRequests(t, `POST /client/v4/zones/Z/dns_records {"data":{"flags":0,"tag":"issue","value":"ca.example"},"name":"example.com","proxied":false,"ttl":3600,"type":"CAA"}`)
}

func TestARecordIsImportedByZoneAndID(t *testing.T) {
	api, p := start(t)
	api.On("GET "+base+"/zones/Z/dns_records/r1", result(record))
	id, state, inputs, err := p.Read(recordToken, "Z/r1", nil, nil)
	if err != nil || id != "r1" || state["zoneId"] != "Z" || inputs["content"] != "192.0.2.10" {
		t.Errorf("id %q, state %v, inputs %v, error %v", id, state, inputs, err)
	}
}

func TestADeletedRecordIsGone(t *testing.T) {
	_, p := start(t)
	if id, _, _, err := p.Read(recordToken, "r1", kit.Props{"zoneId": "Z"}, recordInputs); err != nil || id != "" {
		t.Errorf("id %q, error %v", id, err)
	}
	if err := p.Delete(recordToken, "r1", kit.Props{"zoneId": "Z"}); err != nil {
		t.Errorf("deleting what is gone: %v", err)
	}
}

func TestARecordThatExistsIsNamedWithItsRemedy(t *testing.T) {
	api, p := start(t)
	api.On("POST "+base+"/zones/Z/dns_records", refused("400", "81058", "An identical record already exists."))
	if _, _, err := p.Create(recordToken, recordInputs); err == nil || !strings.Contains(err.Error(), "import the record") {
		t.Errorf("error: %v", err)
	}
}

func TestABusyAPIIsAskedAgain(t *testing.T) {
	api, p := start(t)
	busy := refused("429", "10013", "slow down")
	busy.Header = map[string]string{"Retry-After": "0"}
	api.On("POST "+base+"/zones/Z/dns_records", busy, busy, result(record))
	if id, _, err := p.Create(recordToken, recordInputs); err != nil || id != "r1" {
		t.Errorf("id %q, error %v", id, err)
	}
	if got := len(api.Requests()); got != 3 {
		t.Errorf("%d requests, want 3", got)
	}
}

func TestAZoneSettingIsPatchedAndOnlyForgottenOnDelete(t *testing.T) {
	const token = "cloudflare:index/zoneSetting:ZoneSetting"
	api, p := start(t)
	api.On("PATCH "+base+"/zones/Z/settings/ssl", result(`{"id":"ssl","value":"strict","editable":true}`))
	inputs := kit.Props{"zoneId": "Z", "settingId": "ssl", "value": "strict"}
	id, state, err := p.Create(token, inputs)
	if err != nil || id != "ssl" {
		t.Fatalf("id %q, error %v", id, err)
	}
	if err := p.Delete(token, id, state); err != nil {
		t.Fatal(err)
	}
	api.WantRequests(t, `PATCH /client/v4/zones/Z/settings/ssl {"value":"strict"}`)
}

func TestAPoolCallsItsOriginsHeaderAsTheAPIDoes(t *testing.T) {
	const token = "cloudflare:index/loadBalancerPool:LoadBalancerPool"
	api, p := start(t)
	api.On("POST "+base+"/accounts/A/load_balancers/pools", result(`{"id":"p1","name":"vps-01","monitor":"m1","enabled":true,"minimum_origins":1,
		"origins":[{"name":"vps-01","address":"192.0.2.10","enabled":true,"weight":1,"port":0,"header":{"Host":["fleet.example.com"]}}]}`))
	inputs := kit.Props{"accountId": "A", "name": "vps-01", "monitor": "m1", "origins": []any{map[string]any{
		"name": "vps-01", "address": "192.0.2.10", "enabled": true, "header": map[string]any{"hosts": []any{"fleet.example.com"}}}}}
	_, state, err := p.Create(token, inputs)
	if err != nil {
		t.Fatal(err)
	}
	if changes, _ := p.Diff(token, state, inputs); len(changes) > 0 {
		t.Errorf("what the API filled in is no change: %v", changes)
	}
	api.WantRequests(t, `POST /client/v4/accounts/A/load_balancers/pools {"enabled":true,"minimum_origins":1,"monitor":"m1","name":"vps-01",`+
		`"origins":[{"address":"192.0.2.10","enabled":true,"header":{"Host":["fleet.example.com"]},"name":"vps-01"}]}`)
}

func TestAMonitorKeepsHeaderNamesAsTheyAre(t *testing.T) {
	const token = "cloudflare:index/loadBalancerMonitor:LoadBalancerMonitor"
	api, p := start(t)
	api.On("POST "+base+"/accounts/A/load_balancers/monitors", result(`{"id":"m1","type":"https","header":{"Host":["fleet.example.com"]},
		"expected_codes":"200","consecutive_down":2,"interval":60}`))
	inputs := kit.Props{"accountId": "A", "type": "https", "expectedCodes": "200", "consecutiveDown": 2.0,
		"header": map[string]any{"Host": []any{"fleet.example.com"}}}
	_, state, err := p.Create(token, inputs)
	if err != nil || state["interval"] != 60.0 {
		t.Fatalf("state %v, error %v", state, err)
	}
	if changes, _ := p.Diff(token, state, inputs); len(changes) > 0 {
		t.Errorf("changes: %v", changes)
	}
	api.WantRequests(t, `POST /client/v4/accounts/A/load_balancers/monitors {"consecutive_down":2,"expected_codes":"200","header":{"Host":["fleet.example.com"]},"type":"https"}`)
}

func TestARulesetsRulesAreSpelledInTheAPIsWay(t *testing.T) {
	const token = "cloudflare:index/ruleset:Ruleset"
	api, p := start(t)
	api.On("POST "+base+"/zones/Z/rulesets", result(`{"id":"s1","name":"limits","kind":"zone","phase":"http_ratelimit","version":"1","rules":[{"id":"x","ref":"x",
		"action":"block","expression":"true","enabled":true,"ratelimit":{"requests_per_period":10,"period":10,"characteristics":["ip.src"]}}]}`))
	rule := map[string]any{"action": "block", "expression": "true", "enabled": true,
		"ratelimit": map[string]any{"requestsPerPeriod": 10.0, "period": 10.0, "characteristics": []any{"ip.src"}}}
	inputs := kit.Props{"zoneId": "Z", "name": "limits", "kind": "zone", "phase": "http_ratelimit", "rules": []any{rule}}
	_, state, err := p.Create(token, inputs)
	if err != nil {
		t.Fatal(err)
	}
	if changes, _ := p.Diff(token, state, inputs); len(changes) > 0 {
		t.Errorf("changes: %v", changes)
	}
	if changes, _ := p.Diff(token, state, with(inputs, "phase", "http_request_firewall_custom")); changes["phase"] != "UPDATE_REPLACE" {
		t.Errorf("changes: %v", changes)
	}
	api.WantRequests(t, `POST /client/v4/zones/Z/rulesets {"kind":"zone","name":"limits","phase":"http_ratelimit","rules":[{"action":"block",`+
		`"enabled":true,"expression":"true","ratelimit":{"characteristics":["ip.src"],"period":10,"requests_per_period":10}}]}`)
}

func TestAnOriginCertificateIsReplacedByAnyChange(t *testing.T) {
	const token = "cloudflare:index/originCaCertificate:OriginCaCertificate"
	api, p := start(t)
	api.On("POST "+base+"/certificates", result(`{"id":"c1","csr":"CSR","hostnames":["b","a"],"request_type":"origin-ecc","requested_validity":365,"certificate":"PEM","expires_on":"x"}`))
	inputs := kit.Props{"csr": "CSR\n", "hostnames": []any{"a", "b"}, "requestType": "origin-ecc", "requestedValidity": 365.0}
	id, state, err := p.Create(token, inputs)
	if err != nil || id != "c1" || state["certificate"] != "PEM" {
		t.Fatalf("id %q, state %v, error %v", id, state, err)
	}
	if changes, _ := p.Diff(token, state, inputs); len(changes) > 0 {
		t.Errorf("changes: %v", changes)
	}
	if changes, _ := p.Diff(token, state, with(inputs, "requestedValidity", 90.0)); changes["requestedValidity"] != "UPDATE_REPLACE" {
		t.Errorf("changes: %v", changes)
	}
}

func TestAWorkersNameIsAttachedMovedAndDetached(t *testing.T) {
	const token = "cloudflare:index/workersCustomDomain:WorkersCustomDomain"
	const domain = `{"id":"d1","hostname":"witness.example.com","service":"arbiter","zone_id":"Z","zone_name":"example.com",
		"environment":"production","cert_id":"c1"}`
	api, p := start(t)
	moved := strings.Replace(domain, "arbiter", "other", 1)
	api.On("PUT "+base+"/accounts/A/workers/domains", result(domain), result(moved))
	api.On("GET "+base+"/accounts/A/workers/domains/d1", result(domain))
	api.On("DELETE "+base+"/accounts/A/workers/domains/d1", result(`{"id":"d1"}`))
	inputs := kit.Props{"accountId": "A", "zoneId": "Z", "hostname": "witness.example.com", "service": "arbiter"}
	id, state, err := p.Create(token, inputs)
	if err != nil || id != "d1" || state["zoneName"] != "example.com" || state["certId"] != "c1" {
		t.Fatalf("id %q, state %v, error %v", id, state, err)
	}
	if changes, _ := p.Diff(token, state, inputs); len(changes) > 0 {
		t.Errorf("what the API filled in is no change: %v", changes)
	}
	if id, _, _, err := p.Read(token, "A/d1", nil, nil); err != nil || id != "d1" {
		t.Errorf("import: id %q, error %v", id, err)
	}
	if _, err := p.Update(token, "d1", state, with(inputs, "service", "other")); err != nil {
		t.Error(err)
	}
	if err := p.Delete(token, "d1", state); err != nil {
		t.Error(err)
	}
	api.WantRequests(t,
		`PUT /client/v4/accounts/A/workers/domains {"hostname":"witness.example.com","service":"arbiter","zone_id":"Z"}`,
		"GET /client/v4/accounts/A/workers/domains/d1",
		`PUT /client/v4/accounts/A/workers/domains {"hostname":"witness.example.com","service":"other","zone_id":"Z"}`,
		"DELETE /client/v4/accounts/A/workers/domains/d1",
	)
}

func TestAWorkersNameThatIsGoneIsSeen(t *testing.T) {
	const token = "cloudflare:index/workersCustomDomain:WorkersCustomDomain"
	_, p := start(t)
	if id, _, _, err := p.Read(token, "d1", kit.Props{"accountId": "A"}, nil); err != nil || id != "" {
		t.Errorf("id %q, error %v", id, err)
	}
}

func TestAWorkerIsUploadedInParts(t *testing.T) {
	const token = "cloudflare:index/workersScript:WorkersScript"
	api, p := start(t)
	api.On("PUT "+base+"/accounts/A/workers/scripts/arbiter", result(`{"id":"arbiter","etag":"e"}`))
	inputs := kit.Props{"accountId": "A", "scriptName": "arbiter", "content": "export default {}", "mainModule": "worker.js", "compatibilityDate": "2026-01-01"}
	id, state, err := p.Create(token, inputs)
	if err != nil || id != "arbiter" {
		t.Fatalf("id %q, error %v", id, err)
	}
	sent := strings.Join(api.Requests(), "\n")
	for _, part := range []string{`name="metadata"`, `"main_module":"worker.js"`, `"compatibility_date":"2026-01-01"`, `"logpush":false`,
		`"usage_model":"standard"`, `name="worker.js"`, "Content-Type: application/javascript+module", "export default {}"} {
		if !strings.Contains(sent, part) {
			t.Errorf("no %s in:\n%s", part, sent)
		}
	}
	// Without its service, a script counts as gone.
	if id, _, _, err := p.Read(token, "arbiter", state, inputs); err != nil || id != "" {
		t.Errorf("id %q, error %v", id, err)
	}
	api.WantRequests(t, "GET /client/v4/accounts/A/workers/services/arbiter")
}

func TestAMissingTokenIsNamed(t *testing.T) {
	if _, err := cloudflare.Provider().Connect(kit.Props{}); err == nil || !strings.Contains(err.Error(), "CLOUDFLARE_API_TOKEN") {
		t.Errorf("error: %v", err)
	}
}

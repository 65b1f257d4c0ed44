package hcloud_test

import (
	"crypto/rand"
	"crypto/sha1"
	"encoding/base64"
	"encoding/hex"
	"net/http"
	"reflect"
	"strings"
	"testing"

	"overlord/sandbox/providers/hcloud"
	"overlord/sandbox/providers/kit"
	"overlord/sandbox/providers/kit/kittest"
)

const (
	serverToken    = "hcloud:index/server:Server"
	primaryIPToken = "hcloud:index/primaryIp:PrimaryIp"
	firewallToken  = "hcloud:index/firewall:Firewall"
	sshKeyToken    = "hcloud:index/sshKey:SshKey"
	rdnsToken      = "hcloud:index/rdns:Rdns"
)

func randomToken() string {
	var token [32]byte
	_, _ = rand.Read(token[:])
	return hex.EncodeToString(token[:])
}

func start(t *testing.T) (*kittest.API, *kittest.Plugin) {
	api := kittest.NewAPI(t)
	return api, kittest.Start(t, hcloud.Provider(), kit.Props{
		"token": randomToken(), "endpoint": api.URL + "/v1", "pollInterval": "1ms",
	})
}

func ok(body string) kittest.Answer { return kittest.Answer{Status: http.StatusOK, Body: body} }
func created(body string) kittest.Answer {
	return kittest.Answer{Status: http.StatusCreated, Body: body}
}

func failed(status int, code string) kittest.Answer {
	return kittest.Answer{Status: status, Body: `{"error":{"code":"` + code + `","message":"refused"}}`}
}

const (
	action  = `{"id":90,"status":"success","progress":100,"command":"x","resources":[]}`
	running = `{"id":90,"status":"running","progress":10,"command":"x","resources":[]}`
	actions = `{"actions":[` + action + `]}`
)

func serverBody(status, extra string) string {
	return `{"server":{"id":42,"name":"vps-01","status":"` + status + `","server_type":{"id":1,"name":"cx22"},
		"location":{"id":1,"name":"nbg1"},"image":{"id":7,"name":"debian-12"},"labels":{"role":"primary"},
		"protection":{"delete":true,"rebuild":true},"backup_window":null,"primary_disk_size":40,
		"public_net":{"ipv4":{"id":11,"ip":"192.0.2.10"},"ipv6":{"id":12,"ip":"2001:db8::/64"},
		"firewalls":[{"id":5,"status":"applied"}]}` + extra + `}}`
}

// hetzner answers all that the life of one server asks for.
func hetzner(api *kittest.API) {
	api.On("GET /v1/server_types", ok(`{"server_types":[{"id":1,"name":"cx22","architecture":"x86","locations":[{"name":"nbg1"}]}]}`))
	api.On("GET /v1/images", ok(`{"images":[{"id":7,"name":"debian-12","type":"system","architecture":"x86"}]}`))
	api.On("GET /v1/ssh_keys/3", ok(`{"ssh_key":{"id":3,"name":"k"}}`))
	api.On("POST /v1/servers", created(`{"server":{"id":42,"name":"vps-01","status":"initializing","server_type":{"id":1,"name":"cx22"}},
		"action":`+running+`,"next_actions":[]}`))
	api.On("GET /v1/actions", ok(actions))
	api.On("GET /v1/servers/42", ok(serverBody("running", "")))
	for _, name := range []string{"change_protection", "poweroff", "change_type", "shutdown"} {
		api.On("POST /v1/servers/42/actions/"+name, created(`{"action":`+action+`}`))
	}
	api.On("PUT /v1/servers/42", ok(serverBody("running", "")))
	api.On("DELETE /v1/servers/42", ok(`{"action":`+action+`}`))
}

var serverInputs = kit.Props{
	"name": "vps-01", "serverType": "cx22", "image": "debian-12", "location": "nbg1", "userData": "#cloud-config",
	"sshKeys": []any{"3"}, "firewallIds": []any{5.0}, "labels": map[string]any{"role": "primary"},
	"publicNets":       []any{map[string]any{"ipv4": 11.0, "ipv6": 12.0}},
	"deleteProtection": true, "rebuildProtection": true, "shutdownBeforeDeletion": true,
}

func with(base kit.Props, changes kit.Props) kit.Props {
	out := kit.Props{}
	for name, value := range base {
		out[name] = value
	}
	for name, value := range changes {
		out[name] = value
	}
	return out
}

const (
	createServer = `POST /v1/servers {"name":"vps-01","server_type":"cx22","image":7,"ssh_keys":[3],"location":"nbg1",` +
		`"user_data":"#cloud-config","labels":{"role":"primary"},"firewalls":[{"firewall":5}],` +
		`"public_net":{"enable_ipv4":true,"enable_ipv6":true,"ipv4":11,"ipv6":12}}`
	poll = "GET /v1/actions?id=90&page=1&sort=status&sort=id"
)

func TestAServerIsMadeByTheRequestsOfTheOfficialProvider(t *testing.T) {
	api, p := start(t)
	hetzner(api)
	id, state, err := p.Create(serverToken, serverInputs)
	if err != nil || id != "42" {
		t.Fatalf("id %q, error %v", id, err)
	}
	api.WantRequests(t,
		"GET /v1/server_types?name=cx22",
		"GET /v1/images?architecture=x86&include_deprecated=true&name=debian-12",
		"GET /v1/ssh_keys/3",
		createServer,
		poll,
		`POST /v1/servers/42/actions/change_protection {"rebuild":true,"delete":true}`,
		"GET /v1/servers/42",
	)
	for name, want := range map[string]any{
		"ipv4Address": "192.0.2.10", "ipv6Address": "2001:db8::1", "ipv6Network": "2001:db8::/64", "status": "running",
		"primaryDiskSize": 40.0, "image": "debian-12",
	} {
		if !reflect.DeepEqual(state[name], want) {
			t.Errorf("%s: got %v, want %v", name, state[name], want)
		}
	}
}

func TestTheStateKeepsOnlyAHashOfTheUserData(t *testing.T) {
	api, p := start(t)
	hetzner(api)
	_, state, err := p.Create(serverToken, serverInputs)
	sum := sha1.Sum([]byte("#cloud-config"))
	if want := base64.StdEncoding.EncodeToString(sum[:]); err != nil || state["userData"] != want {
		t.Errorf("user data in the state: %v, want %v (error %v)", state["userData"], want, err)
	}
}

func TestAServerThatWasMadeIsNeverLost(t *testing.T) {
	for name, route := range map[string]string{
		"the action fails":     "GET /v1/actions",
		"the protection fails": "POST /v1/servers/42/actions/change_protection",
	} {
		t.Run(name, func(t *testing.T) {
			api, p := start(t)
			hetzner(api)
			api.On(route, failed(http.StatusUnprocessableEntity, "service_error"))
			_, _, err := p.Create(serverToken, serverInputs)
			detail, kept := kittest.InitFailed(err)
			if !kept || detail.GetId() != "42" {
				t.Fatalf("the id is lost: %v", err)
			}
			if state := kit.Props(kit.Decode(detail.GetProperties())); state.String("ipv4Address") != "192.0.2.10" {
				t.Errorf("the state does not tell what exists: %v", state)
			}
		})
	}
}

func TestAServerThatWasRefusedLeavesNothingInTheState(t *testing.T) {
	api, p := start(t)
	hetzner(api)
	api.On("POST /v1/servers", failed(http.StatusConflict, "uniqueness_error"))
	_, _, err := p.Create(serverToken, serverInputs)
	if _, kept := kittest.InitFailed(err); kept || err == nil || !strings.Contains(err.Error(), "another object has this name") {
		t.Errorf("error: %v", err)
	}
}

func TestARetiredServerTypeIsRefusedBeforeAnythingIsMade(t *testing.T) {
	api, p := start(t)
	hetzner(api)
	api.On("GET /v1/server_types", ok(`{"server_types":[{"id":1,"name":"cx22","architecture":"x86","locations":[{"name":"nbg1",
		"deprecation":{"announced":"2020-01-01T00:00:00Z","unavailable_after":"2020-02-01T00:00:00Z"}}]}]}`))
	_, _, err := p.Create(serverToken, serverInputs)
	if err == nil || !strings.Contains(err.Error(), "can no longer be ordered since 2020-02-01") {
		t.Errorf("error: %v", err)
	}
	api.WantRequests(t, "GET /v1/server_types?name=cx22")
}

func madeServer(t *testing.T, api *kittest.API, p *kittest.Plugin) kit.Props {
	t.Helper()
	hetzner(api)
	_, state, err := p.Create(serverToken, serverInputs)
	if err != nil {
		t.Fatal(err)
	}
	api.Requests()
	return state
}

func TestAnUnchangedServerNeedsNoRequest(t *testing.T) {
	api, p := start(t)
	state := madeServer(t, api, p)
	if changes, _ := p.Diff(serverToken, state, serverInputs); len(changes) > 0 {
		t.Errorf("changes: %v", changes)
	}
	api.WantRequests(t)
}

func TestWhichChangesReplaceAServer(t *testing.T) {
	api, p := start(t)
	state := madeServer(t, api, p)
	for name, c := range map[string]struct {
		value any
		kind  string
	}{
		"userData":   {"#cloud-config\n# other", "UPDATE_REPLACE"},
		"image":      {"ubuntu-24.04", "UPDATE_REPLACE"},
		"location":   {"fsn1", "UPDATE_REPLACE"},
		"sshKeys":    {[]any{"4"}, "UPDATE_REPLACE"},
		"serverType": {"cx32", "UPDATE"},
		"name":       {"vps-02", "UPDATE"},
		"backups":    {true, "ADD"},
	} {
		changes, _ := p.Diff(serverToken, state, with(serverInputs, kit.Props{name: c.value}))
		if len(changes) != 1 {
			t.Errorf("%s: changes %v", name, changes)
		}
		for path, kind := range changes {
			if !strings.HasPrefix(path, name) || strings.HasSuffix(kind, "REPLACE") != strings.HasSuffix(c.kind, "REPLACE") {
				t.Errorf("%s: got %s %s, want %s", name, path, kind, c.kind)
			}
		}
	}
}

func TestAServersTypeIsChangedWhileItIsOff(t *testing.T) {
	for keep, upgrade := range map[bool]string{false: "true", true: "false"} {
		api, p := start(t)
		state := madeServer(t, api, p)
		state["keepDisk"] = keep
		if _, err := p.Update(serverToken, "42", state, with(serverInputs, kit.Props{"serverType": "cx32", "keepDisk": keep})); err != nil {
			t.Fatal(err)
		}
		api.WantRequests(t,
			"GET /v1/servers/42",
			"POST /v1/servers/42/actions/poweroff",
			`POST /v1/servers/42/actions/change_type {"server_type":"cx32","upgrade_disk":`+upgrade+`}`,
			"GET /v1/servers/42",
		)
	}
}

func TestAServersLabelsAreChangedInPlace(t *testing.T) {
	api, p := start(t)
	state := madeServer(t, api, p)
	if _, err := p.Update(serverToken, "42", state, with(serverInputs, kit.Props{"labels": map[string]any{"role": "standby"}})); err != nil {
		t.Fatal(err)
	}
	api.WantRequests(t,
		"GET /v1/servers/42",
		`PUT /v1/servers/42 {"labels":{"role":"standby"}}`,
		"GET /v1/servers/42",
	)
}

func TestAddressesMoveWhileTheServerIsOff(t *testing.T) {
	api, p := start(t)
	state := madeServer(t, api, p)
	done := created(`{"action":` + action + `}`)
	for _, route := range []string{"servers/42/actions/poweron", "primary_ips/11/actions/unassign", "primary_ips/21/actions/assign"} {
		api.On("POST /v1/"+route, done)
	}
	if _, err := p.Update(serverToken, "42", state, with(serverInputs, kit.Props{
		"publicNets": []any{map[string]any{"ipv4": 21.0, "ipv6": 12.0}},
	})); err != nil {
		t.Fatal(err)
	}
	api.WantRequests(t,
		"GET /v1/servers/42",
		"POST /v1/servers/42/actions/poweroff",
		"POST /v1/primary_ips/11/actions/unassign",
		`POST /v1/primary_ips/21/actions/assign {"assignee_id":42,"assignee_type":"server"}`,
		"POST /v1/servers/42/actions/poweron",
		"GET /v1/servers/42",
	)
}

func TestAServerWhoseAddressesAreRightKeepsRunning(t *testing.T) {
	api, p := start(t)
	state := madeServer(t, api, p)
	delete(state, "publicNets") // as after an import
	if _, err := p.Update(serverToken, "42", state, serverInputs); err != nil {
		t.Fatal(err)
	}
	api.WantRequests(t, "GET /v1/servers/42", "GET /v1/servers/42")
}

func TestAServerIsShutDownBeforeItIsDeleted(t *testing.T) {
	api, p := start(t)
	state := madeServer(t, api, p)
	api.On("GET /v1/servers/42", ok(serverBody("off", "")))
	if err := p.Delete(serverToken, "42", state); err != nil {
		t.Fatal(err)
	}
	api.WantRequests(t, "POST /v1/servers/42/actions/shutdown", "GET /v1/servers/42", "DELETE /v1/servers/42")
}

func TestAProtectedServerIsNotDeletedAndTheErrorSaysWhatToDo(t *testing.T) {
	api, p := start(t)
	state := madeServer(t, api, p)
	api.On("GET /v1/servers/42", ok(serverBody("off", "")))
	api.On("DELETE /v1/servers/42", failed(http.StatusLocked, "protected"))
	if err := p.Delete(serverToken, "42", state); err == nil || !strings.Contains(err.Error(), "deleteProtection") {
		t.Errorf("error: %v", err)
	}
	for _, request := range api.Requests() {
		if strings.Contains(request, "change_protection") {
			t.Error("the provider must not lift the protection by itself")
		}
	}
}

func TestAServerIsReadOnceAndSeesDrift(t *testing.T) {
	api, p := start(t)
	state := madeServer(t, api, p)
	inputs := p.Inputs(serverToken, serverInputs)
	id, same, _, err := p.Read(serverToken, "42", state, inputs)
	if err != nil || id != "42" || !reflect.DeepEqual(same, state) {
		t.Errorf("a refresh without drift: %v\n%v\n%v", err, same, state)
	}
	api.WantRequests(t, "GET /v1/servers/42")

	api.On("GET /v1/servers/42", ok(strings.Replace(serverBody("off", ""), `"role":"primary"`, `"role":"other"`, 1)))
	_, drifted, live, err := p.Read(serverToken, "42", state, inputs)
	if err != nil || drifted["status"] != "off" || live.StringMap("labels")["role"] != "other" {
		t.Errorf("drift is not seen: %v, %v, %v", err, drifted, live)
	}
	if live["userData"] != "#cloud-config" {
		t.Errorf("the user data of the inputs is lost: %v", live["userData"])
	}

	api.On("GET /v1/servers/42", failed(http.StatusNotFound, "not_found"))
	if id, _, _, err := p.Read(serverToken, "42", state, inputs); err != nil || id != "" {
		t.Errorf("a server that is gone: id %q, %v", id, err)
	}
}

func TestAServerIsImportedByItsID(t *testing.T) {
	api, p := start(t)
	hetzner(api)
	id, state, inputs, err := p.Read(serverToken, "42", nil, nil)
	if err != nil || id != "42" || state["name"] != "vps-01" || inputs["serverType"] != "cx22" {
		t.Errorf("id %q, state %v, inputs %v, error %v", id, state, inputs, err)
	}
}

const ipBody = `{"primary_ip":{"id":11,"name":"vps-01-ipv4","type":"ipv4","ip":"192.0.2.10","auto_delete":false,
	"assignee_type":"server","assignee_id":null,"labels":{"a":"b"},"protection":{"delete":true},
	"location":{"id":1,"name":"nbg1"},"dns_ptr":[{"ip":"192.0.2.10","dns_ptr":"vps-01.example.com"}]}}`

var ipInputs = kit.Props{
	"name": "vps-01-ipv4", "type": "ipv4", "location": "nbg1", "autoDelete": false, "labels": map[string]any{"a": "b"}, "deleteProtection": true,
}

func TestAPrimaryIPIsMadeByTheRequestsOfTheOfficialProvider(t *testing.T) {
	api, p := start(t)
	api.On("POST /v1/primary_ips", created(ipBody))
	api.On("GET /v1/primary_ips/11", ok(ipBody))
	api.On("POST /v1/primary_ips/11/actions/change_protection", created(`{"action":`+action+`}`))
	id, state, err := p.Create(primaryIPToken, ipInputs)
	if err != nil || id != "11" || state["ipAddress"] != "192.0.2.10" {
		t.Fatalf("id %q, state %v, error %v", id, state, err)
	}
	api.WantRequests(t,
		`POST /v1/primary_ips {"name":"vps-01-ipv4","type":"ipv4","labels":{"a":"b"},"auto_delete":false,"location":"nbg1"}`,
		`POST /v1/primary_ips/11/actions/change_protection {"delete":true}`,
		"GET /v1/primary_ips/11",
	)
	if changes, _ := p.Diff(primaryIPToken, state, ipInputs); len(changes) > 0 {
		t.Errorf("changes: %v", changes)
	}
}

func TestAPrimaryIPNeedsExactlyOnePlace(t *testing.T) {
	_, p := start(t)
	for _, in := range []kit.Props{{"type": "ipv4"}, {"type": "ipv4", "location": "nbg1", "assigneeId": 1.0}} {
		if _, failures := p.Check(primaryIPToken, in); len(failures) != 1 {
			t.Errorf("%v: failures %v", in, failures)
		}
	}
}

const firewallBody = `{"firewall":{"id":5,"name":"fw","labels":{},"applied_to":[{"type":"server","server":{"id":42}}],
	"rules":[{"direction":"in","protocol":"tcp","port":"80","source_ips":["0.0.0.0/0","::/0"],"destination_ips":[]}]}}`

var firewallInputs = kit.Props{"name": "fw", "rules": []any{map[string]any{
	"direction": "in", "protocol": "tcp", "port": "80", "sourceIps": []any{"0.0.0.0/0", "::/0"},
}}}

func TestAFirewallsRulesAreSetAsAWhole(t *testing.T) {
	api, p := start(t)
	api.On("POST /v1/firewalls", created(firewallBody))
	api.On("GET /v1/firewalls/5", ok(firewallBody))
	api.On("POST /v1/firewalls/5/actions/set_rules", created(actions))
	_, state, err := p.Create(firewallToken, firewallInputs)
	if err != nil {
		t.Fatal(err)
	}
	rule := `{"direction":"in","source_ips":["0.0.0.0/0","::/0"],"protocol":"tcp","port":"80"}`
	api.WantRequests(t, `POST /v1/firewalls {"name":"fw","rules":[`+rule+`]}`, "GET /v1/firewalls/5")

	wider := with(firewallInputs, kit.Props{"rules": append([]any{map[string]any{
		"direction": "in", "protocol": "icmp", "sourceIps": []any{"0.0.0.0/0"},
	}}, firewallInputs["rules"].([]any)...)})
	if _, err := p.Update(firewallToken, "5", state, wider); err != nil {
		t.Fatal(err)
	}
	api.WantRequests(t,
		`POST /v1/firewalls/5/actions/set_rules {"rules":[{"direction":"in","source_ips":["0.0.0.0/0"],"protocol":"icmp"},`+rule+`]}`,
		"GET /v1/firewalls/5",
	)
}

func TestAFirewallIsTakenOffItsServersBeforeItIsDeleted(t *testing.T) {
	api, p := start(t)
	hetzner(api)
	api.On("GET /v1/firewalls/5", ok(firewallBody))
	api.On("POST /v1/firewalls/5/actions/remove_from_resources", created(actions))
	api.On("DELETE /v1/firewalls/5", failed(http.StatusConflict, "resource_in_use"), kittest.Answer{Status: http.StatusNoContent})
	if err := p.Delete(firewallToken, "5", kit.Props{}); err != nil {
		t.Fatal(err)
	}
	api.WantRequests(t,
		"GET /v1/firewalls/5",
		"GET /v1/servers/42",
		`POST /v1/firewalls/5/actions/remove_from_resources {"remove_from":[{"type":"server","server":{"id":42}}]}`,
		"DELETE /v1/firewalls/5",
		"DELETE /v1/firewalls/5",
	)
}

func TestAFirewallRuleMustBeABlockAndHaveItsPort(t *testing.T) {
	_, p := start(t)
	for _, rule := range []map[string]any{
		{"direction": "in", "protocol": "tcp", "port": "22", "sourceIps": []any{"10.0.0.1/8"}},
		{"direction": "in", "protocol": "tcp", "port": "22", "sourceIps": []any{"home"}},
		{"direction": "in", "protocol": "tcp", "sourceIps": []any{"10.0.0.0/8"}},
		{"direction": "up", "protocol": "icmp"},
	} {
		if _, failures := p.Check(firewallToken, kit.Props{"rules": []any{rule}}); len(failures) == 0 || !strings.HasPrefix(failures[0], "rules[0].") {
			t.Errorf("%v: failures %v", rule, failures)
		}
	}
}

func TestAnSSHKeyLivesByItsThreeRequests(t *testing.T) {
	api, p := start(t)
	body := `{"ssh_key":{"id":3,"name":"k","public_key":"ssh-ed25519 AAAA","fingerprint":"aa:bb","labels":{}}}`
	api.On("POST /v1/ssh_keys", created(body))
	api.On("GET /v1/ssh_keys/3", ok(body))
	inputs := kit.Props{"name": "k", "publicKey": "ssh-ed25519 AAAA\n"}
	id, state, err := p.Create(sshKeyToken, inputs)
	if err != nil || id != "3" || state["fingerprint"] != "aa:bb" {
		t.Fatalf("id %q, state %v, error %v", id, state, err)
	}
	if changes, _ := p.Diff(sshKeyToken, state, inputs); len(changes) > 0 {
		t.Errorf("the newline of the key file is no change: %v", changes)
	}
	if err := p.Delete(sshKeyToken, id, state); err != nil {
		t.Errorf("deleting a key that is gone: %v", err)
	}
	api.WantRequests(t, `POST /v1/ssh_keys {"name":"k","public_key":"ssh-ed25519 AAAA\n"}`, "GET /v1/ssh_keys/3", "DELETE /v1/ssh_keys/3")
}

func TestReverseDNSIsSetAndTakenBack(t *testing.T) {
	api, p := start(t)
	api.On("GET /v1/primary_ips/11", ok(ipBody))
	api.On("POST /v1/primary_ips/11/actions/change_dns_ptr", created(`{"action":`+action+`}`))
	inputs := kit.Props{"primaryIpId": 11.0, "ipAddress": "192.0.2.10", "dnsPtr": "vps-01.example.com"}
	id, state, err := p.Create(rdnsToken, inputs)
	if err != nil || id != "p-11-192.0.2.10" {
		t.Fatalf("id %q, error %v", id, err)
	}
	if err := p.Delete(rdnsToken, id, state); err != nil {
		t.Fatal(err)
	}
	api.WantRequests(t,
		"GET /v1/primary_ips/11",
		`POST /v1/primary_ips/11/actions/change_dns_ptr {"ip":"192.0.2.10","dns_ptr":"vps-01.example.com"}`,
		"GET /v1/primary_ips/11",
		"GET /v1/primary_ips/11",
		`POST /v1/primary_ips/11/actions/change_dns_ptr {"ip":"192.0.2.10","dns_ptr":null}`,
	)
}

func TestABusyAPIIsAskedAgain(t *testing.T) {
	api, p := start(t)
	api.On("GET /v1/primary_ips/11", failed(http.StatusConflict, "conflict"), ok(ipBody))
	if id, _, _, err := p.Read(primaryIPToken, "11", kit.Props{}, kit.Props{}); err != nil || id != "11" {
		t.Errorf("id %q, error %v", id, err)
	}
}

func TestAMissingOrShortTokenIsNamed(t *testing.T) {
	t.Setenv("HCLOUD_TOKEN", "")
	for _, token := range []string{"", "short"} {
		_, err := hcloud.Provider().Connect(kit.Props{"token": token, "pollInterval": "1ms"})
		if err == nil || !strings.Contains(err.Error(), "Hetzner Cloud API token") {
			t.Errorf("%q: error %v", token, err)
		}
	}
}

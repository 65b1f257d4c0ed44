package command_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"overlord/sandbox/providers/command"
	"overlord/sandbox/providers/kit"
	"overlord/sandbox/providers/kit/kittest"
)

const (
	remoteToken = "command:remote:Command"
	localToken  = "command:local:Command"
)

// host is an SSH server that runs commands with /bin/sh and takes variables named FLEET_*.
type host struct {
	port    int64
	hostKey string
	userKey string
	ended   sync.WaitGroup
}

func newKey(t *testing.T) (ssh.Signer, string) {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		t.Fatal(err)
	}
	return signer, string(pem.EncodeToMemory(block))
}

func newHost(t *testing.T) *host {
	t.Helper()
	hostSigner, _ := newKey(t)
	userSigner, userKey := newKey(t)
	config := &ssh.ServerConfig{PublicKeyCallback: func(_ ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
		if string(key.Marshal()) != string(userSigner.PublicKey().Marshal()) {
			return nil, fmt.Errorf("unknown key")
		}
		return nil, nil
	}}
	config.AddHostKey(hostSigner)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	h := &host{
		port:    int64(listener.Addr().(*net.TCPAddr).Port),
		hostKey: string(ssh.MarshalAuthorizedKey(hostSigner.PublicKey())),
		userKey: userKey,
	}
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go h.serve(conn, config)
		}
	}()
	return h
}

func (h *host) serve(conn net.Conn, config *ssh.ServerConfig) {
	_, channels, requests, err := ssh.NewServerConn(conn, config)
	if err != nil {
		return
	}
	go ssh.DiscardRequests(requests)
	for wanted := range channels {
		channel, requests, err := wanted.Accept()
		if err == nil {
			go h.session(channel, requests)
		}
	}
}

func (h *host) session(channel ssh.Channel, requests <-chan *ssh.Request) {
	var environment []string
	var process *exec.Cmd
	for request := range requests {
		switch request.Type {
		case "env":
			var variable struct{ Name, Value string }
			_ = ssh.Unmarshal(request.Payload, &variable)
			accepted := strings.HasPrefix(variable.Name, "FLEET_") || strings.HasPrefix(variable.Name, "PULUMI_")
			if accepted {
				environment = append(environment, variable.Name+"="+variable.Value)
			}
			_ = request.Reply(accepted, nil)
		case "exec":
			var command struct{ Line string }
			_ = ssh.Unmarshal(request.Payload, &command)
			process = exec.Command("/bin/sh", "-c", command.Line)
			process.Env = append(os.Environ(), environment...)
			process.Stdin, process.Stdout, process.Stderr = channel, channel, channel.Stderr()
			process.WaitDelay = time.Second
			h.ended.Add(1)
			if err := process.Start(); err != nil {
				h.ended.Done()
				_ = request.Reply(false, nil)
				continue
			}
			_ = request.Reply(true, nil)
			go func() {
				defer h.ended.Done()
				_ = process.Wait()
				code := make([]byte, 4)
				code[3] = byte(process.ProcessState.ExitCode())
				_, _ = channel.SendRequest("exit-status", false, code)
				_ = channel.Close()
			}()
		case "signal":
			if process != nil && process.Process != nil {
				_ = process.Process.Kill()
			}
		default:
			_ = request.Reply(false, nil)
		}
	}
	_, _ = io.Copy(io.Discard, channel)
}

func (h *host) connection(changes kit.Props) map[string]any {
	out := map[string]any{"host": "127.0.0.1", "port": float64(h.port), "user": "deploy", "privateKey": h.userKey,
		"hostKey": h.hostKey, "dialErrorLimit": 1.0, "perDialTimeout": 2.0}
	for name, value := range changes {
		out[name] = value
	}
	return out
}

func TestARemoteCommandGetsItsInputAndHandsBackItsOutput(t *testing.T) {
	t.Setenv("SSH_AUTH_SOCK", "")
	h, p := newHost(t), kittest.Start(t, command.Provider(), nil)
	inputs := kit.Props{
		"connection": h.connection(nil), "create": "cat; echo; echo $FLEET_SIZE; echo oops >&2", "stdin": kit.Secret{Value: "in"},
		"environment": map[string]any{"FLEET_SIZE": "50"}, "update": "echo was $PULUMI_COMMAND_STDOUT",
	}
	id, state, err := p.Create(remoteToken, inputs)
	if err != nil || id == "" {
		t.Fatalf("id %q, error %v", id, err)
	}
	if state["stdout"] != "in\n50" || state["stderr"] != "oops" {
		t.Errorf("stdout %q, stderr %q", state["stdout"], state["stderr"])
	}
	if _, secret := state["connection"].(kit.Secret); !secret {
		t.Error("the connection holds a private key and must be secret")
	}
	if _, secret := state["stdin"].(kit.Secret); !secret {
		t.Error("a secret input must stay secret")
	}
	inputs["environment"] = map[string]any{"FLEET_SIZE": "60"}
	state, err = p.Update(remoteToken, id, state, inputs)
	if err != nil || state["stdout"] != "was in 50" {
		t.Errorf("stdout %q, error %v", state["stdout"], err)
	}
}

func TestAFailingRemoteCommandShowsWhatItPrinted(t *testing.T) {
	t.Setenv("SSH_AUTH_SOCK", "")
	h, p := newHost(t), kittest.Start(t, command.Provider(), nil)
	_, _, err := p.Create(remoteToken, kit.Props{"connection": h.connection(nil), "create": "echo why; exit 3"})
	if err == nil || !strings.Contains(err.Error(), "why") || !strings.Contains(err.Error(), "status 3") {
		t.Errorf("error: %v", err)
	}
}

func TestAHostWithAnotherKeyIsRefused(t *testing.T) {
	t.Setenv("SSH_AUTH_SOCK", "")
	h, p := newHost(t), kittest.Start(t, command.Provider(), nil)
	other, _ := newKey(t)
	pinned := string(ssh.MarshalAuthorizedKey(other.PublicKey()))
	touched := filepath.Join(t.TempDir(), "touched")
	_, _, err := p.Create(remoteToken, kit.Props{"connection": h.connection(kit.Props{"hostKey": pinned}), "create": "touch " + touched})
	if err == nil || !strings.Contains(err.Error(), "host key mismatch") {
		t.Errorf("error: %v", err)
	}
	if _, err := os.Stat(touched); err == nil {
		t.Error("the command ran on a host that was not verified")
	}
}

func TestAHostThatIsNotThereIsTriedAsOftenAsAllowed(t *testing.T) {
	t.Setenv("SSH_AUTH_SOCK", "")
	h, p := newHost(t), kittest.Start(t, command.Provider(), nil)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	free := listener.Addr().(*net.TCPAddr).Port
	_ = listener.Close()
	_, _, err = p.Create(remoteToken, kit.Props{
		"connection": h.connection(kit.Props{"port": float64(free), "dialErrorLimit": 2.0}), "create": "true",
	})
	if err == nil || !strings.Contains(err.Error(), "after 2 failed attempts") || !strings.Contains(err.Error(), strconv.Itoa(free)) {
		t.Errorf("error: %v", err)
	}
}

func TestARefusedVariableIsNamed(t *testing.T) {
	t.Setenv("SSH_AUTH_SOCK", "")
	h, p := newHost(t), kittest.Start(t, command.Provider(), nil)
	_, _, err := p.Create(remoteToken, kit.Props{
		"connection": h.connection(nil), "create": "true", "environment": map[string]any{"OTHER": "x"},
	})
	if err == nil || !strings.Contains(err.Error(), "OTHER") || !strings.Contains(err.Error(), "AcceptEnv") {
		t.Errorf("error: %v", err)
	}
}

func TestAConnectionCanGoThroughAProxy(t *testing.T) {
	t.Setenv("SSH_AUTH_SOCK", "")
	p := kittest.Start(t, command.Provider(), nil)
	// This proxy lets nobody through, which is enough to see that it was asked first.
	proxy, target := newHost(t), newHost(t)
	_, _, err := p.Create(remoteToken, kit.Props{"create": "true",
		"connection": target.connection(kit.Props{"proxy": proxy.connection(nil)})})
	if err == nil || !strings.Contains(err.Error(), "failed attempts") {
		t.Errorf("error: %v", err)
	}
}

func TestCancelEndsTheRemoteCommand(t *testing.T) {
	t.Setenv("SSH_AUTH_SOCK", "")
	h, p := newHost(t), kittest.Start(t, command.Provider(), nil)
	started := filepath.Join(t.TempDir(), "started")
	ended := make(chan error, 1)
	go func() {
		_, _, err := p.Create(remoteToken, kit.Props{"connection": h.connection(nil), "create": "touch " + started + "; exec sleep 60"})
		ended <- err
	}()
	waitFor(t, started)
	if _, err := p.RPC.Cancel(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-ended:
		if err == nil {
			t.Error("a cancelled command must not look successful")
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the command goes on")
	}
	h.ended.Wait() // the process on the host is gone as well
}

func TestCancelEndsALocalCommandAndItsChildren(t *testing.T) {
	p := kittest.Start(t, command.Provider(), nil)
	started := filepath.Join(t.TempDir(), "started")
	ended := make(chan error, 1)
	go func() {
		_, _, err := p.Create(localToken, kit.Props{"create": "sleep 60 & echo $! > " + started + ".new; mv " + started + ".new " + started + "; wait"})
		ended <- err
	}()
	waitFor(t, started)
	_, _ = p.RPC.Cancel(t.Context(), nil)
	select {
	case err := <-ended:
		if err == nil {
			t.Error("a cancelled command must not look successful")
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the command goes on")
	}
	text, err := os.ReadFile(started)
	if err != nil {
		t.Fatal(err)
	}
	child, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(5 * time.Second); alive(child); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the command's child goes on")
		}
	}
}

// alive tells whether a process runs: one that only waits for its parent to notice does not.
func alive(pid int) bool {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !strings.Contains(string(status), ") Z ")
}

func waitFor(t *testing.T, path string) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if _, err := os.Stat(path); err == nil {
			return
		}
	}
	t.Fatalf("%s never came", path)
}

func TestOnlyTriggersReplaceACommand(t *testing.T) {
	p := kittest.Start(t, command.Provider(), nil)
	_, state, err := p.Create(localToken, kit.Props{"create": "echo a", "triggers": []any{"1"}})
	if err != nil {
		t.Fatal(err)
	}
	if changes, _ := p.Diff(localToken, state, kit.Props{"create": "echo b", "triggers": []any{"1"}}); changes["create"] != "UPDATE" || len(changes) != 1 {
		t.Errorf("changes: %v", changes)
	}
	if changes, resp := p.Diff(localToken, state, kit.Props{"create": "echo a", "triggers": []any{"2"}}); changes["triggers[0]"] != "UPDATE_REPLACE" || len(resp.GetReplaces()) != 1 {
		t.Errorf("changes: %v", changes)
	}
}

func TestASecretCommandHasSecretOutput(t *testing.T) {
	p := kittest.Start(t, command.Provider(), nil)
	_, state, err := p.Create(localToken, kit.Props{"create": kit.Secret{Value: "echo s"}})
	if err != nil || state["stdout"] != (kit.Secret{Value: "s"}) {
		t.Errorf("stdout %v, error %v", state["stdout"], err)
	}
}

func TestAFailedUpdateKeepsTheResource(t *testing.T) {
	p := kittest.Start(t, command.Provider(), nil)
	id, state, err := p.Create(localToken, kit.Props{"create": "echo a"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Update(localToken, id, state, kit.Props{"create": "echo broken; exit 1"}); err == nil || !strings.Contains(err.Error(), "broken") {
		t.Errorf("error: %v", err)
	}
}

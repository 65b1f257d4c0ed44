package main

import (
	"bufio"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// asPlugin makes the test binary behave as the plugin of this name.
const asPlugin = "TEST_PLUGIN"

func TestMain(m *testing.M) {
	if name := os.Getenv(asPlugin); name != "" {
		if serve(name, os.Args[1:]) != nil {
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func startPlugin(t *testing.T, name string, args ...string) *exec.Cmd {
	t.Helper()
	plugin := exec.Command(os.Args[0], args...)
	plugin.Env = append(os.Environ(), asPlugin+"="+name)
	stdout, err := plugin.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := plugin.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = plugin.Process.Kill() })
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	if port, err := strconv.Atoi(strings.TrimSpace(line)); err != nil || port == 0 {
		t.Fatalf("the first line must be the port, not %q", line)
	}
	return plugin
}

func TestEachPluginPrintsItsPortAndEndsAtOnceWhenTheEngineIsDone(t *testing.T) {
	for _, name := range []string{
		"resource-hcloud", "resource-cloudflare", "resource-tailscale", "resource-command", "language-python",
	} {
		plugin := startPlugin(t, name, "127.0.0.1:1")
		ended := make(chan error, 1)
		go func() { ended <- plugin.Wait() }()
		if err := plugin.Process.Signal(syscall.SIGINT); err != nil {
			t.Fatal(err)
		}
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
		case <-time.After(2 * time.Second):
			t.Errorf("%s: still there; the engine would wait five seconds for it", name)
		}
	}
}

func TestAnUnknownNameIsRefused(t *testing.T) {
	if err := serve("resource-aws", nil); err == nil {
		t.Error("there is no stand-in for aws")
	}
}

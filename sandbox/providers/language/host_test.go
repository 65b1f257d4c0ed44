package language

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	pulumirpc "github.com/pulumi/pulumi/sdk/v3/proto/go"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/structpb"
)

// project is a folder whose virtual environment has a Python that is the given shell script.
func project(t *testing.T, script string) *pulumirpc.ProgramInfo {
	t.Helper()
	folder := t.TempDir()
	bin := filepath.Join(folder, "environment", "bin")
	if err := os.MkdirAll(bin, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(bin, "python"), []byte("#!/bin/sh\n"+script), 0o755); err != nil {
		t.Fatal(err)
	}
	options, err := structpb.NewStruct(map[string]any{"virtualenv": "environment"})
	if err != nil {
		t.Fatal(err)
	}
	return &pulumirpc.ProgramInfo{
		RootDirectory: folder, ProgramDirectory: folder, EntryPoint: ".", Options: options,
	}
}

func newHost() *host {
	root, end := context.WithCancel(context.Background())
	return &host{engine: "127.0.0.1:1", folder: "/starters", root: root, end: end}
}

func run(t *testing.T, h *host, info *pulumirpc.ProgramInfo) *pulumirpc.RunResponse {
	t.Helper()
	answer, err := h.Run(t.Context(), &pulumirpc.RunRequest{
		Project: "overlord", Stack: "test", Organization: "organization", Pwd: info.GetRootDirectory(),
		MonitorAddress: "127.0.0.1:2", DryRun: true, Parallel: 16, Info: info, Args: []string{"one"},
		Config: map[string]string{"overlord:name": "value"}, ConfigSecretKeys: []string{"overlord:token"},
	})
	if err != nil {
		t.Fatal(err)
	}
	return answer
}

func TestAProgramIsStartedWithItsEnvironmentItsConfigurationAndTheEnginesAddresses(t *testing.T) {
	t.Setenv("PYTHONHOME", "/elsewhere")
	info := project(t, `{ echo "$*"; env; pwd; } > "$(dirname "$0")/said"`)
	if answer := run(t, newHost(), info); answer.GetError() != "" || answer.GetBail() {
		t.Fatal(answer)
	}
	said, err := os.ReadFile(filepath.Join(info.GetRootDirectory(), "environment", "bin", "said"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"-u /starters/pulumi-language-python-exec ",
		"--engine 127.0.0.1:1 --monitor 127.0.0.1:2 --project overlord --stack test",
		"--dry_run true --parallel 16 " + info.GetRootDirectory() + " one",
		`PULUMI_CONFIG={"overlord:name":"value"}`,
		`PULUMI_CONFIG_SECRET_KEYS=["overlord:token"]`,
		"VIRTUAL_ENV=" + filepath.Join(info.GetRootDirectory(), "environment"),
		"PATH=" + filepath.Join(info.GetRootDirectory(), "environment", "bin") + ":",
	} {
		if !strings.Contains(string(said), want) {
			t.Errorf("%q is missing in\n%s", want, said)
		}
	}
	if strings.Contains(string(said), "PYTHONHOME") {
		t.Error("another Python's home reached the program")
	}
}

func TestAStackWithoutConfigurationHasAnEmptyOne(t *testing.T) {
	got, err := configurationOf(&pulumirpc.RunRequest{})
	if err != nil || !slices.Equal(got, []string{"PULUMI_CONFIG={}", "PULUMI_CONFIG_SECRET_KEYS=[]"}) {
		t.Error(got, err)
	}
}

func TestAnErrorThatTheProgramHasShownIsNotShownAgain(t *testing.T) {
	if answer := run(t, newHost(), project(t, "exit 32")); !answer.GetBail() || answer.GetError() != "" {
		t.Error(answer)
	}
}

func TestAnyOtherExitCodeIsAnError(t *testing.T) {
	answer := run(t, newHost(), project(t, "exit 7"))
	if answer.GetBail() || !strings.Contains(answer.GetError(), "exit code 7") {
		t.Error(answer)
	}
}

func TestAProgramEndsWhenTheEngineCancels(t *testing.T) {
	info := project(t, `touch "$(dirname "$0")/started"; exec sleep 60`)
	h := newHost()
	ended := make(chan *pulumirpc.RunResponse, 1)
	go func() { ended <- run(t, h, info) }()
	started := filepath.Join(info.GetRootDirectory(), "environment", "bin", "started")
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if _, err := os.Stat(started); err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the program did not start")
		}
	}
	if _, err := h.Cancel(t.Context(), &emptypb.Empty{}); err != nil {
		t.Fatal(err)
	}
	select {
	case answer := <-ended:
		if !answer.GetBail() {
			t.Error(answer)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the program still runs")
	}
}

func TestAnEnvironmentThatIsNotThereIsNamedWithTheRemedy(t *testing.T) {
	info := project(t, "")
	info.RootDirectory = t.TempDir()
	missing := filepath.Join(info.GetRootDirectory(), "environment")
	_, err := newHost().Run(t.Context(), &pulumirpc.RunRequest{Info: info})
	if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("python3 -m venv %s", missing)) {
		t.Error(err)
	}
}

func TestThePackagesOfAnEnvironmentAreListedWithoutPip(t *testing.T) {
	info := project(t, `echo '[{"name": "pulumi", "version": "3.250.0"}]'`)
	answer, err := newHost().GetProgramDependencies(
		t.Context(), &pulumirpc.GetProgramDependenciesRequest{Info: info})
	if err != nil {
		t.Fatal(err)
	}
	if got := answer.GetDependencies(); len(got) != 1 || got[0].GetName() != "pulumi" || got[0].GetVersion() != "3.250.0" {
		t.Error(got)
	}
}

// Package command stands in for pulumi-command 1.2.1: commands on this machine and over SSH.
package command

import (
	"crypto/rand"
	"encoding/hex"

	"overlord/sandbox/providers/kit"
)

// client is empty: commands bring their own connection.
type client struct{}

type call = kit.Call[client]

// Provider is the table of everything this plugin knows.
func Provider() kit.Provider[client] {
	return kit.Provider[client]{
		Name:      "command",
		Version:   "1.2.1",
		Connect:   func(kit.Props) (client, error) { return client{}, nil },
		Resources: []kit.Resource[client]{localCommand, remoteCommand, copyToRemote},
	}
}

// commandFields are the inputs and outputs that local and remote commands share.
var commandFields = []kit.Field{
	{Name: "create", Type: kit.String},
	{Name: "update", Type: kit.String},
	{Name: "delete", Type: kit.String},
	{Name: "stdin", Type: kit.String},
	{Name: "environment", Type: kit.Map},
	{Name: "addPreviousOutputInEnv", Type: kit.Bool, Default: true},
	{Name: "logging", Type: kit.String, Validate: kit.OneOf("stdout", "stderr", "stdoutAndStderr", "none")},
	{Name: "triggers", Type: kit.List, Replace: true},
	{Name: "stdout", Type: kit.String, Output: true},
	{Name: "stderr", Type: kit.String, Output: true},
}

// secretOutputs: what a secret command prints is secret.
var secretOutputs = map[string][]string{"stdout": {"create", "update"}, "stderr": {"create", "update"}}

// runner runs a command to its end and returns what it printed. previous is the state before.
type runner func(c *call, in kit.Props, command string, previous kit.Props) (kit.Props, error)

// command is the resource of a command that runs somewhere: fields are those of the place.
func command(token string, fields []kit.Field, run runner) kit.Resource[client] {
	return kit.Resource[client]{
		Token:         token,
		Fields:        append(fields, commandFields...),
		SecretOutputs: secretOutputs,
		Opaque:        true,
		Plan:          planOutputs,

		Create: func(c *call, in kit.Props) (kit.Result, error) {
			live := kit.Props{"stdout": "", "stderr": ""}
			if in.Has("create") {
				var err error
				if live, err = run(c, in, in.String("create"), nil); err != nil {
					return kit.Result{}, err
				}
			}
			return kit.Result{ID: newID("command"), Live: live}, nil
		},

		Update: func(c *call, _ string, state, in kit.Props, _ func(string) bool) (kit.Result, error) {
			if command := onUpdate(in); command != "" {
				live, err := run(c, in, command, state)
				return kit.Result{Live: live}, err
			}
			return kit.Result{Live: kit.Props{}}, nil
		},

		Delete: func(c *call, _ string, state kit.Props) error {
			if !state.Has("delete") {
				return nil
			}
			_, err := run(c, state, state.String("delete"), state)
			return err
		},
	}
}

// planOutputs makes the output of a command that is about to change unknown in a preview.
func planOutputs(state, inputs, plan kit.Props) {
	if state == nil {
		if !inputs.Has("create") {
			if _, unknown := inputs["create"]; !unknown {
				plan["stdout"], plan["stderr"] = "", ""
			}
		}
		return
	}
	if state["create"] != inputs["create"] || state["update"] != inputs["update"] {
		plan["stdout"], plan["stderr"] = kit.Unknown{}, kit.Unknown{}
	}
}

// onUpdate is the command that an update runs: update, or else create.
func onUpdate(in kit.Props) string {
	if in.Has("update") {
		return in.String("update")
	}
	return in.String("create")
}

func newID(name string) string {
	var random [4]byte
	_, _ = rand.Read(random[:]) // never fails: it ends the program instead
	return name + hex.EncodeToString(random[:])
}

// Package hcloud stands in for pulumi-hcloud 1.39.1: it sends what the official provider sends,
// through Hetzner's own client.
package hcloud

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/hetznercloud/hcloud-go/v2/hcloud"

	"overlord/sandbox/providers/kit"
)

type call = kit.Call[*hcloud.Client]

// Provider is the table of everything this plugin knows.
func Provider() kit.Provider[*hcloud.Client] {
	return kit.Provider[*hcloud.Client]{
		Name:    "hcloud",
		Version: "1.39.1",
		Config: []kit.Field{
			{Name: "token", Type: kit.String, Secret: true, Env: []string{"HCLOUD_TOKEN"}},
			{Name: "endpoint", Type: kit.String, Env: []string{"HCLOUD_ENDPOINT"}},
			{Name: "endpointHetzner", Type: kit.String, Env: []string{"HETZNER_ENDPOINT"}},
			{Name: "pollInterval", Type: kit.String, Default: "500ms"},
			{Name: "pollFunction", Type: kit.String, Default: "exponential", Validate: kit.OneOf("constant", "exponential")},
		},
		Connect:   connect,
		Resources: []kit.Resource[*hcloud.Client]{sshKey, primaryIP, firewall, firewallAttachment, server, reverseDNS},
		Functions: []kit.Function[*hcloud.Client]{
			getServerType, getServerTypes, getLocation, getLocations, getImage,
		},
		Gone:    func(err error) bool { return hcloud.IsError(err, hcloud.ErrorCodeNotFound) },
		Explain: explain,
	}
}

const tokenLength = 64

func connect(config kit.Props) (*hcloud.Client, error) {
	token := config.String("token")
	if token == "" {
		return nil, errors.New("missing Hetzner Cloud API token: set it in the environment variable HCLOUD_TOKEN, " +
			"or with `pulumi config set --secret hcloud:token`")
	}
	if len(token) != tokenLength {
		return nil, fmt.Errorf("the Hetzner Cloud API token must be exactly %d characters long, and this one has %d: "+
			"copy it again from the project's Security page", tokenLength, len(token))
	}
	interval, err := time.ParseDuration(config.String("pollInterval"))
	if err != nil {
		return nil, fmt.Errorf("hcloud:pollInterval: %w (write it like 500ms)", err)
	}
	poll := hcloud.ConstantBackoff(interval)
	if config.String("pollFunction") == "exponential" {
		poll = hcloud.ExponentialBackoffWithOpts(hcloud.ExponentialBackoffOpts{
			Base: interval, Multiplier: 2, Cap: max(interval, 5*time.Second),
		})
	}
	options := []hcloud.ClientOption{
		hcloud.WithToken(token),
		hcloud.WithApplication("overlord-provider", "1.39.1"),
		hcloud.WithPollOpts(hcloud.PollOpts{BackoffFunc: poll}),
	}
	if endpoint := config.String("endpoint"); endpoint != "" {
		options = append(options, hcloud.WithEndpoint(strings.TrimRight(endpoint, "/")))
	}
	return hcloud.NewClient(options...), nil
}

// remedies tell the operator what to do about an error code of the API.
var remedies = map[hcloud.ErrorCode]string{
	hcloud.ErrorCodeUnauthorized:          "check HCLOUD_TOKEN: the API does not know this token",
	hcloud.ErrorCodeForbidden:             "the token may only read; make one with read and write access",
	hcloud.ErrorCodeResourceLimitExceeded: "the project's limit is reached; ask Hetzner to raise it, or delete what is not used",
	hcloud.ErrorCodeRateLimitExceeded:     "the project's request limit is used up; wait an hour, or raise hcloud:pollInterval",
	hcloud.ErrorCodeUniquenessError:       "another object has this name; import it by its id, rename it or delete it",
	hcloud.ErrorCodeResourceUnavailable:   "it is sold out there; choose another server type or location",
	hcloud.ErrorCodeProtected:             "its delete protection is on; set deleteProtection to false and run `pulumi up` first",
	hcloud.ErrorCodeLocked:                "another action is running on it; try again when that has ended",
	hcloud.ErrorCodeMaintenance:           "the API is in maintenance; see status.hetzner.com and try again",
}

func explain(err error) error {
	var api hcloud.Error
	if !errors.As(err, &api) {
		return err
	}
	text := err.Error()
	if details, ok := api.Details.(hcloud.ErrorDetailsInvalidInput); ok {
		for _, field := range details.Fields {
			text += fmt.Sprintf("; %s: %s", field.Name, strings.Join(field.Messages, ", "))
		}
	}
	if remedy, ok := remedies[api.Code]; ok {
		text += ": " + remedy
	}
	return errors.New(text)
}

func formatID(id int64) string { return strconv.FormatInt(id, 10) }

// parseID reads an id of the state or of an import.
func parseID(id string) (int64, error) {
	n, err := strconv.ParseInt(id, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%q is not an id of Hetzner Cloud: it must be a number", id)
	}
	return n, nil
}

// byID is the Read of an object that the API finds by its number: find looks for it, and props
// says what of it the engine sees.
func byID[T any](
	find func(c *call, id int64) (*T, *hcloud.Response, error), props func(found *T, state kit.Props) kit.Props,
) func(*call, string, kit.Props) (kit.Result, error) {
	return func(c *call, id string, state kit.Props) (kit.Result, error) {
		number, err := parseID(id)
		if err != nil {
			return kit.Result{}, err
		}
		found, _, err := find(c, number)
		if err != nil || found == nil {
			return kit.Result{}, err
		}
		return kit.Result{ID: id, Live: props(found, state)}, nil
	}
}

// deleteByID is the Delete of such an object.
func deleteByID(
	remove func(c *call, id int64, state kit.Props) error,
) func(*call, string, kit.Props) error {
	return func(c *call, id string, state kit.Props) error {
		number, err := parseID(id)
		if err != nil {
			return err
		}
		return remove(c, number, state)
	}
}

// labels are sent as an empty map when the program takes the last one away.
func labels(in kit.Props) map[string]string {
	if out := in.StringMap("labels"); out != nil {
		return out
	}
	return map[string]string{}
}

func wait(c *call, actions ...*hcloud.Action) error {
	present := make([]*hcloud.Action, 0, len(actions))
	for _, action := range actions {
		if action != nil {
			present = append(present, action)
		}
	}
	return c.Client.Action.WaitFor(c, present...)
}

// retry tries again with growing pauses while the API answers that something is in the way.
func retry(c *call, tries int, do func() error, again func(error) bool) error {
	pause := time.Second
	for try := 1; ; try++ {
		err := do()
		if err == nil || try == tries || !again(err) {
			return err
		}
		select {
		case <-c.Done():
			return c.Err()
		case <-time.After(pause):
		}
		pause = min(2*pause, 15*time.Second)
	}
}

func validateLabels(in any) string {
	object, _ := in.(map[string]any)
	if ok, err := hcloud.ValidateResourceLabels(object); !ok {
		return err.Error()
	}
	return ""
}

package hcloud

import (
	"crypto/sha1"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hetznercloud/hcloud-go/v2/hcloud"

	"overlord/sandbox/providers/kit"
)

var server = kit.Resource[*hcloud.Client]{
	Token: "hcloud:index/server:Server",
	Fields: []kit.Field{
		{Name: "name", Type: kit.String, Autoname: 63},
		{Name: "serverType", Type: kit.String, Required: true},
		{Name: "image", Type: kit.String, Computed: true, Replace: true, Validate: notEmpty},
		{Name: "location", Type: kit.String, Computed: true, Replace: true},
		{Name: "datacenter", Type: kit.String, Computed: true, Replace: true},
		{Name: "userData", Type: kit.String, Replace: true, Stored: hash, Same: sameUserData},
		{Name: "sshKeys", Type: kit.List, Replace: true, Elem: []kit.Field{{Type: kit.String, Validate: notEmpty}}},
		{Name: "publicNets", Type: kit.Set, Elem: []kit.Field{
			{Name: "ipv4Enabled", Type: kit.Bool, Default: true},
			{Name: "ipv4", Type: kit.Number, Computed: true},
			{Name: "ipv6Enabled", Type: kit.Bool, Default: true},
			{Name: "ipv6", Type: kit.Number, Computed: true},
		}},
		{Name: "firewallIds", Type: kit.Set, Computed: true, Elem: kit.Items(kit.Number)},
		{Name: "ignoreRemoteFirewallIds", Type: kit.Bool, Default: false},
		{Name: "labels", Type: kit.Map, Validate: validateLabels},
		{Name: "backups", Type: kit.Bool, Default: false},
		{Name: "keepDisk", Type: kit.Bool, Default: false},
		{Name: "allowDeprecatedImages", Type: kit.Bool, Default: false},
		{Name: "deleteProtection", Type: kit.Bool, Default: false},
		{Name: "rebuildProtection", Type: kit.Bool, Default: false},
		{Name: "shutdownBeforeDeletion", Type: kit.Bool, Default: false},
		{Name: "iso", Type: kit.String, Validate: unsupported},
		{Name: "rescue", Type: kit.String, Validate: unsupported},
		{Name: "networks", Type: kit.Set, Validate: unsupported},
		{Name: "placementGroupId", Type: kit.Number, Validate: unsupported},
		{Name: "backupWindow", Type: kit.String, Output: true},
		{Name: "ipv4Address", Type: kit.String, Output: true},
		{Name: "ipv6Address", Type: kit.String, Output: true},
		{Name: "ipv6Network", Type: kit.String, Output: true},
		{Name: "primaryDiskSize", Type: kit.Number, Output: true},
		{Name: "status", Type: kit.String, Output: true},
	},

	Check: func(in kit.Props) []kit.Failure {
		if in["deleteProtection"] == in["rebuildProtection"] {
			return nil
		}
		return []kit.Failure{{Property: "rebuildProtection", Reason: "the API wants deleteProtection and rebuildProtection to be the same"}}
	},

	Create: func(c *call, in kit.Props) (kit.Result, error) {
		opts, err := createOpts(c, in)
		if err != nil {
			return kit.Result{}, err
		}
		created, _, err := c.Client.Server.Create(c, opts)
		if err != nil {
			return kit.Result{}, err
		}
		// From here on the server exists: every failure hands its id back.
		made := kit.Result{ID: formatID(created.Server.ID)}
		if err := wait(c, append(created.NextActions, created.Action)...); err != nil {
			return made, err
		}
		if in.Bool("backups") {
			if err := setBackups(c, created.Server, true); err != nil {
				return made, err
			}
		}
		if in.Bool("deleteProtection") || in.Bool("rebuildProtection") {
			return made, protectServer(c, created.Server, in)
		}
		return made, nil
	},

	Read: byID(func(c *call, id int64) (*hcloud.Server, *hcloud.Response, error) {
		return c.Client.Server.GetByID(c, id)
	}, serverProps),

	Update: func(c *call, id string, _, in kit.Props, changed func(string) bool) (kit.Result, error) {
		number, err := parseID(id)
		if err != nil {
			return kit.Result{}, err
		}
		found, _, err := c.Client.Server.GetByID(c, number)
		if err != nil {
			return kit.Result{}, err
		}
		if found == nil {
			return kit.Result{}, fmt.Errorf("server %s no longer exists: run `pulumi refresh`, then `pulumi up`", id)
		}
		if changed("name") {
			if _, _, err := c.Client.Server.Update(c, found, hcloud.ServerUpdateOpts{Name: in.String("name")}); err != nil {
				return kit.Result{}, err
			}
		}
		if changed("labels") {
			if _, _, err := c.Client.Server.Update(c, found, hcloud.ServerUpdateOpts{Labels: labels(in)}); err != nil {
				return kit.Result{}, err
			}
		}
		if changed("serverType") {
			if err := changeType(c, found, in); err != nil {
				return kit.Result{}, err
			}
		}
		if changed("backups") {
			if err := setBackups(c, found, in.Bool("backups")); err != nil {
				return kit.Result{}, err
			}
		}
		if changed("firewallIds") {
			if err := setFirewalls(c, found, in.Ints("firewallIds")); err != nil {
				return kit.Result{}, err
			}
		}
		if changed("publicNets") {
			if err := setPublicNet(c, found, in); err != nil {
				return kit.Result{}, err
			}
		}
		if changed("deleteProtection") || changed("rebuildProtection") {
			return kit.Result{}, protectServer(c, found, in)
		}
		return kit.Result{}, nil
	},

	Delete: deleteByID(func(c *call, id int64, state kit.Props) error {
		if state.Bool("shutdownBeforeDeletion") {
			if err := shutDown(c, id); err != nil {
				return err
			}
		}
		deleted, _, err := c.Client.Server.DeleteWithResult(c, &hcloud.Server{ID: id})
		if err != nil {
			return err
		}
		return wait(c, deleted.Action)
	}),
}

func createOpts(c *call, in kit.Props) (hcloud.ServerCreateOpts, error) {
	var none hcloud.ServerCreateOpts
	serverType, err := orderableType(c, in)
	if err != nil {
		return none, err
	}
	image, err := usableImage(c, in, serverType)
	if err != nil {
		return none, err
	}
	opts := hcloud.ServerCreateOpts{
		Name:       in.String("name"),
		ServerType: &hcloud.ServerType{Name: serverType.Name},
		Image:      image,
		UserData:   in.String("userData"),
		Labels:     in.StringMap("labels"),
	}
	for _, name := range in.Strings("sshKeys") {
		key, _, err := c.Client.SSHKey.Get(c, name)
		if err != nil {
			return none, err
		}
		if key == nil {
			return none, fmt.Errorf("sshKeys: there is no SSH key %q in this project", name)
		}
		opts.SSHKeys = append(opts.SSHKeys, key)
	}
	if location := locationOf(in); location != "" {
		opts.Location = &hcloud.Location{Name: location}
	}
	for _, id := range in.Ints("firewallIds") {
		opts.Firewalls = append(opts.Firewalls, &hcloud.ServerCreateFirewall{Firewall: hcloud.Firewall{ID: id}})
	}
	for _, net := range in.Objects("publicNets") {
		opts.PublicNet = &hcloud.ServerCreatePublicNet{EnableIPv4: net.Bool("ipv4Enabled"), EnableIPv6: net.Bool("ipv6Enabled")}
		if id := net.Int("ipv4"); id != 0 {
			opts.PublicNet.EnableIPv4, opts.PublicNet.IPv4 = true, &hcloud.PrimaryIP{ID: id}
		}
		if id := net.Int("ipv6"); id != 0 {
			opts.PublicNet.EnableIPv6, opts.PublicNet.IPv6 = true, &hcloud.PrimaryIP{ID: id}
		}
	}
	return opts, nil
}

func orderableType(c *call, in kit.Props) (*hcloud.ServerType, error) {
	name := in.String("serverType")
	found, _, err := c.Client.ServerType.Get(c, name)
	if err != nil {
		return nil, err
	}
	if found == nil {
		return nil, fmt.Errorf("serverType: there is no server type %q", name)
	}
	deprecation := found.DeprecatableResource
	for _, place := range found.Locations {
		if place.Location != nil && place.Location.Name == locationOf(in) {
			deprecation = place.DeprecatableResource
		}
	}
	if deprecation.IsDeprecated() {
		until := deprecation.UnavailableAfter()
		if time.Now().After(until) {
			return nil, fmt.Errorf("serverType: %q can no longer be ordered since %s; choose another one",
				name, until.Format(time.DateOnly))
		}
		c.Warn(fmt.Sprintf("server type %q is deprecated and can be ordered until %s", name, until.Format(time.DateOnly)))
	}
	return found, nil
}

func usableImage(c *call, in kit.Props, serverType *hcloud.ServerType) (*hcloud.Image, error) {
	name := in.String("image")
	found, _, err := c.Client.Image.GetForArchitecture(c, name, serverType.Architecture)
	if err != nil {
		return nil, err
	}
	if found == nil {
		return nil, fmt.Errorf("image: there is no image %q for architecture %s", name, serverType.Architecture)
	}
	if found.IsDeprecated() {
		if !in.Bool("allowDeprecatedImages") {
			return nil, fmt.Errorf("image: %q is deprecated; choose another one or set allowDeprecatedImages", name)
		}
		c.Warn(fmt.Sprintf("image %q is deprecated", name))
	}
	return found, nil
}

func serverProps(found *hcloud.Server, state kit.Props) kit.Props {
	live := kit.Props{
		"name":              found.Name,
		"status":            string(found.Status),
		"serverType":        found.ServerType.Name,
		"labels":            kit.TextMap(found.Labels),
		"backupWindow":      found.BackupWindow,
		"backups":           found.BackupWindow != "",
		"deleteProtection":  found.Protection.Delete,
		"rebuildProtection": found.Protection.Rebuild,
		"primaryDiskSize":   float64(found.PrimaryDiskSize),
		"ipv4Address":       nil,
		"ipv6Address":       nil,
		"ipv6Network":       nil,
	}
	if found.Location != nil {
		live["location"] = found.Location.Name
	}
	if !found.PublicNet.IPv4.IsUnspecified() {
		live["ipv4Address"] = found.PublicNet.IPv4.IP.String()
	}
	if !found.PublicNet.IPv6.IsUnspecified() {
		// The API names the network; its first address is the server's.
		live["ipv6Address"] = found.PublicNet.IPv6.IP.String() + "1"
		live["ipv6Network"] = found.PublicNet.IPv6.Network.String()
	}
	if image := found.Image; image != nil {
		live["image"] = image.Name
		if id := formatID(image.ID); image.Name == "" || state.String("image") == id {
			live["image"] = id
		}
	}
	if !state.Bool("ignoreRemoteFirewallIds") || !state.Has("firewallIds") {
		ids := []int64{}
		for _, firewall := range found.PublicNet.Firewalls {
			ids = append(ids, firewall.Firewall.ID)
		}
		live["firewallIds"] = kit.Numbers(ids)
	}
	if state.Has("publicNets") {
		live["publicNets"] = []any{map[string]any{
			"ipv4Enabled": found.PublicNet.IPv4.ID != 0,
			"ipv4":        float64(found.PublicNet.IPv4.ID),
			"ipv6Enabled": found.PublicNet.IPv6.ID != 0,
			"ipv6":        float64(found.PublicNet.IPv6.ID),
		}}
	}
	return live
}

// changeType needs the server to be off, and the API starts it again.
func changeType(c *call, found *hcloud.Server, in kit.Props) error {
	if found.Status == hcloud.ServerStatusRunning {
		action, _, err := c.Client.Server.Poweroff(c, found)
		if err != nil {
			return err
		}
		if err := wait(c, action); err != nil {
			return err
		}
	}
	action, _, err := c.Client.Server.ChangeType(c, found, hcloud.ServerChangeTypeOpts{
		ServerType:  &hcloud.ServerType{Name: in.String("serverType")},
		UpgradeDisk: !in.Bool("keepDisk"),
	})
	if err != nil {
		return err
	}
	return wait(c, action)
}

func setBackups(c *call, found *hcloud.Server, wanted bool) error {
	var action *hcloud.Action
	var err error
	switch enabled := found.BackupWindow != ""; {
	case wanted && !enabled:
		action, _, err = c.Client.Server.EnableBackup(c, found, "")
	case !wanted && enabled:
		action, _, err = c.Client.Server.DisableBackup(c, found)
	}
	if err != nil {
		return err
	}
	return wait(c, action)
}

func setFirewalls(c *call, found *hcloud.Server, wanted []int64) error {
	target := []hcloud.FirewallResource{serverTarget(found.ID)}
	keep := map[int64]bool{}
	for _, id := range wanted {
		keep[id] = true
	}
	for _, attached := range found.PublicNet.Firewalls {
		if keep[attached.Firewall.ID] {
			delete(keep, attached.Firewall.ID)
			continue
		}
		if err := moveFirewall(c, attached.Firewall.ID, target, nil); err != nil {
			return err
		}
	}
	for _, id := range wanted {
		if keep[id] {
			if err := moveFirewall(c, id, nil, target); err != nil {
				return err
			}
		}
	}
	return nil
}

// move is what a change of public_nets asks for one family of addresses.
type move struct {
	kind            hcloud.PrimaryIPType
	current, wanted int64
	enabled         bool
	managed         bool // the program named the current address, so it is not ours to delete
}

func (m move) needed() bool {
	switch {
	case m.wanted != 0:
		return m.current != m.wanted
	case m.enabled:
		return m.current == 0 || m.managed
	}
	return m.current != 0
}

// setPublicNet moves primary IPs. The API lets them move only while the server is off; whatever
// happens, the server is started again. Where nothing has to move, it is left running.
func setPublicNet(c *call, found *hcloud.Server, in kit.Props) (err error) {
	moves := slices.DeleteFunc(moves(c, found, in), func(m move) bool { return !m.needed() })
	if len(moves) == 0 {
		return nil
	}
	action, _, err := c.Client.Server.Poweroff(c, found)
	if err != nil {
		return err
	}
	if err := wait(c, action); err != nil {
		return err
	}
	defer func() {
		started := retry(c, 5, func() error {
			action, _, err := c.Client.Server.Poweron(c, found)
			if err != nil {
				return err
			}
			return wait(c, action)
		}, func(error) bool { return true })
		if err == nil {
			err = started
		}
	}()
	for _, m := range moves {
		if err := m.carryOut(c, found); err != nil {
			return err
		}
	}
	return nil
}

func moves(c *call, found *hcloud.Server, in kit.Props) []move {
	old := map[int64]bool{}
	for _, net := range c.OldInputs.Objects("publicNets") {
		old[net.Int("ipv4")], old[net.Int("ipv6")] = true, true
	}
	wanted := kit.Props{"ipv4Enabled": true, "ipv6Enabled": true}
	if nets := in.Objects("publicNets"); len(nets) > 0 {
		wanted = nets[0]
	}
	of := func(kind hcloud.PrimaryIPType, current int64) move {
		return move{
			kind: kind, current: current, wanted: wanted.Int(string(kind)),
			enabled: wanted.Bool(string(kind) + "Enabled"), managed: old[current],
		}
	}
	return []move{
		of(hcloud.PrimaryIPTypeIPv4, found.PublicNet.IPv4.ID),
		of(hcloud.PrimaryIPTypeIPv6, found.PublicNet.IPv6.ID),
	}
}

func (m move) carryOut(c *call, found *hcloud.Server) error {
	if m.current != 0 {
		if err := unassign(c, m.current); err != nil {
			return err
		}
		if !m.managed { // one that the API made for this server: nobody else would clear it away
			if _, err := c.Client.PrimaryIP.Delete(c, &hcloud.PrimaryIP{ID: m.current}); err != nil {
				return err
			}
		}
	}
	switch {
	case m.wanted != 0:
		return assign(c, m.wanted, found.ID)
	case m.enabled:
		autoDelete := true
		created, _, err := c.Client.PrimaryIP.Create(c, hcloud.PrimaryIPCreateOpts{
			Name: fmt.Sprintf("primary_ip-%d-%s", found.ID, m.kind), Type: m.kind,
			AssigneeID: &found.ID, AssigneeType: "server", AutoDelete: &autoDelete,
		})
		if err != nil {
			return err
		}
		return wait(c, created.Action)
	}
	return nil
}

func protectServer(c *call, found *hcloud.Server, in kit.Props) error {
	remove, rebuild := in.Bool("deleteProtection"), in.Bool("rebuildProtection")
	action, _, err := c.Client.Server.ChangeProtection(c, found, hcloud.ServerChangeProtectionOpts{
		Delete: &remove, Rebuild: &rebuild,
	})
	if err != nil {
		return err
	}
	return wait(c, action)
}

// shutdownPauses add up to the 30 seconds that a server gets to shut down by itself.
var shutdownPauses = []time.Duration{1 * time.Second, 2 * time.Second, 4 * time.Second, 8 * time.Second, 15 * time.Second}

func shutDown(c *call, id int64) error {
	action, _, err := c.Client.Server.Shutdown(c, &hcloud.Server{ID: id})
	if err != nil {
		return err
	}
	if err := wait(c, action); err != nil {
		return err
	}
	for try := 0; ; try++ {
		found, _, err := c.Client.Server.GetByID(c, id)
		if err != nil {
			return err
		}
		if found == nil || found.Status == hcloud.ServerStatusOff {
			return nil
		}
		if try == len(shutdownPauses) {
			c.Warn(fmt.Sprintf("server %d took longer than 30s to shut down by itself; it is deleted all the same", id))
			return nil
		}
		select {
		case <-c.Done():
			return c.Err()
		case <-time.After(shutdownPauses[try]):
		}
	}
}

// hash is what the state keeps of the user data, as the official provider does.
func hash(in any) any {
	text, _ := in.(string)
	if text == "" {
		return ""
	}
	sum := sha1.Sum([]byte(text))
	return base64.StdEncoding.EncodeToString(sum[:])
}

// sameUserData also accepts the hash itself as an input: a refresh may have left it there.
func sameUserData(old, wanted any) bool {
	a, _ := old.(string)
	b, _ := wanted.(string)
	return strings.TrimSpace(a) == strings.TrimSpace(b)
}

func notEmpty(in any) string {
	if in == "" {
		return "must have at least one character"
	}
	return ""
}

func unsupported(any) string {
	return "the stand-in of the sandbox does not support this property; the official hcloud plugin does"
}

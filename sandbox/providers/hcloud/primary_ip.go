package hcloud

import (
	"github.com/hetznercloud/hcloud-go/v2/hcloud"

	"overlord/sandbox/providers/kit"
)

var primaryIP = kit.Resource[*hcloud.Client]{
	Token: "hcloud:index/primaryIp:PrimaryIp",
	Fields: []kit.Field{
		{Name: "name", Type: kit.String, Autoname: 63},
		{Name: "type", Type: kit.String, Required: true, Replace: true, Validate: kit.OneOf("ipv4", "ipv6")},
		{Name: "location", Type: kit.String, Computed: true, Replace: true},
		{Name: "datacenter", Type: kit.String, Computed: true, Replace: true},
		{Name: "assigneeId", Type: kit.Number, Computed: true},
		{Name: "assigneeType", Type: kit.String, Computed: true},
		{Name: "autoDelete", Type: kit.Bool, Default: false},
		{Name: "deleteProtection", Type: kit.Bool, Default: false},
		{Name: "labels", Type: kit.Map, Validate: validateLabels},
		{Name: "ipAddress", Type: kit.String, Output: true},
		{Name: "ipNetwork", Type: kit.String, Output: true},
	},

	Check: func(in kit.Props) []kit.Failure {
		given := 0
		for _, name := range []string{"location", "datacenter", "assigneeId"} {
			if _, ok := in[name]; ok {
				given++
			}
		}
		if given == 1 {
			return nil
		}
		return []kit.Failure{{Property: "location", Reason: "exactly one of \"location\", \"datacenter\" and \"assigneeId\" must be set"}}
	},

	Create: func(c *call, in kit.Props) (kit.Result, error) {
		autoDelete := in.Bool("autoDelete")
		opts := hcloud.PrimaryIPCreateOpts{
			Name:       in.String("name"),
			Type:       hcloud.PrimaryIPType(in.String("type")),
			AutoDelete: &autoDelete,
			Labels:     in.StringMap("labels"),
			Location:   locationOf(in),
		}
		if in.Has("assigneeId") {
			id := in.Int("assigneeId")
			opts.AssigneeID, opts.AssigneeType = &id, "server"
		} else if in.Has("assigneeType") {
			c.Warn("assigneeType without assigneeId is deprecated: it does nothing, leave it out")
		}
		created, _, err := c.Client.PrimaryIP.Create(c, opts)
		if err != nil {
			return kit.Result{}, err
		}
		made := kit.Result{ID: formatID(created.PrimaryIP.ID)}
		if err := wait(c, created.Action); err != nil {
			return made, err
		}
		if in.Bool("deleteProtection") {
			return made, protectPrimaryIP(c, created.PrimaryIP.ID, true)
		}
		return made, nil
	},

	Read: byID(func(c *call, id int64) (*hcloud.PrimaryIP, *hcloud.Response, error) {
		return c.Client.PrimaryIP.GetByID(c, id)
	}, func(ip *hcloud.PrimaryIP, _ kit.Props) kit.Props {
		live := kit.Props{
			"name":             ip.Name,
			"type":             string(ip.Type),
			"assigneeId":       float64(ip.AssigneeID),
			"assigneeType":     ip.AssigneeType,
			"autoDelete":       ip.AutoDelete,
			"deleteProtection": ip.Protection.Delete,
			"labels":           kit.TextMap(ip.Labels),
			"ipAddress":        ip.IP.String(),
		}
		if ip.Location != nil {
			live["location"] = ip.Location.Name
		}
		if ip.Network != nil {
			live["ipNetwork"] = ip.Network.String()
		}
		return live
	}),

	Update: func(c *call, id string, _, in kit.Props, changed func(string) bool) (kit.Result, error) {
		number, err := parseID(id)
		if err != nil {
			return kit.Result{}, err
		}
		ip := &hcloud.PrimaryIP{ID: number}
		if changed("name") {
			if _, _, err := c.Client.PrimaryIP.Update(c, ip, hcloud.PrimaryIPUpdateOpts{Name: in.String("name")}); err != nil {
				return kit.Result{}, err
			}
		}
		if changed("autoDelete") {
			autoDelete := in.Bool("autoDelete")
			if _, _, err := c.Client.PrimaryIP.Update(c, ip, hcloud.PrimaryIPUpdateOpts{AutoDelete: &autoDelete}); err != nil {
				return kit.Result{}, err
			}
		}
		if changed("assigneeId") {
			if err := unassign(c, number); err != nil {
				return kit.Result{}, err
			}
			if assignee := in.Int("assigneeId"); assignee != 0 {
				if err := assign(c, number, assignee); err != nil {
					return kit.Result{}, err
				}
			}
		}
		if changed("labels") {
			wanted := labels(in)
			if _, _, err := c.Client.PrimaryIP.Update(c, ip, hcloud.PrimaryIPUpdateOpts{Labels: &wanted}); err != nil {
				return kit.Result{}, err
			}
		}
		if changed("deleteProtection") {
			if err := protectPrimaryIP(c, number, in.Bool("deleteProtection")); err != nil {
				return kit.Result{}, err
			}
		}
		return kit.Result{}, nil
	},

	Delete: deleteByID(func(c *call, id int64, _ kit.Props) error {
		// The API goes on calling an address in use for a while after its server is gone.
		return retry(c, 10, func() error {
			_, err := c.Client.PrimaryIP.Delete(c, &hcloud.PrimaryIP{ID: id})
			return err
		}, func(err error) bool {
			return !hcloud.IsError(err, hcloud.ErrorCodeNotFound, hcloud.ErrorCodeProtected,
				hcloud.ErrorCodeUnauthorized, hcloud.ErrorCodeForbidden)
		})
	}),
}

// locationOf reads the place to create something in. A datacenter name like hel1-dc2 starts
// with its location; the API no longer takes datacenters.
func locationOf(in kit.Props) string {
	if in.Has("location") {
		return in.String("location")
	}
	name := in.String("datacenter")
	for i, letter := range name {
		if letter == '-' {
			return name[:i]
		}
	}
	return name
}

func protectPrimaryIP(c *call, id int64, protected bool) error {
	action, _, err := c.Client.PrimaryIP.ChangeProtection(c, hcloud.PrimaryIPChangeProtectionOpts{ID: id, Delete: protected})
	if err != nil {
		return err
	}
	return wait(c, action)
}

func assign(c *call, id, serverID int64) error {
	action, _, err := c.Client.PrimaryIP.Assign(c, hcloud.PrimaryIPAssignOpts{ID: id, AssigneeID: serverID, AssigneeType: "server"})
	if err != nil {
		return err
	}
	return wait(c, action)
}

func unassign(c *call, id int64) error {
	action, _, err := c.Client.PrimaryIP.Unassign(c, id)
	if err != nil {
		return err
	}
	return wait(c, action)
}

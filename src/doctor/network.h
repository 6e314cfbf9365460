#pragma once

#include "base/clock.h"
#include "comm/address.h"
#include "doctor/finding.h"

namespace sluice::doctor {

// Every interface that is up, with its addresses, speed and largest packet; whether another host can be
// reached through one at all; RDMA devices.
Findings LookAtInterfaces();
bool HasRdmaDevices();

// What other hosts would make of this host's name.
Finding LookAtHostName();

// --dist-init-addr: whether this host can listen there, if the address is its own, or else connect within
// `timeout`. A host that answers but does not listen yet is no more than a warning.
Finding LookAtMeetingPoint(const comm::Address& address, Duration timeout);

}  // namespace sluice::doctor

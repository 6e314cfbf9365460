#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "trace/strip.h"

namespace sluice::trace {

// The ranks of one dump's trace files as lanes of a picture, on the controller's clock: a compute span for
// each pass, from its first op or collective to its last, without the waiting for rows before and after.
std::vector<Lane> PipelineLanes(const std::vector<std::filesystem::path>& files);

// `text` as it may stand in a document of XML.
std::string XmlText(const std::string& text);

}  // namespace sluice::trace

#pragma once

#include <concepts>
#include <memory>
#include <type_traits>
#include <utility>

namespace sluice {

// Something that can be called and is not owned: two pointers, so that passing it on allocates nothing. What
// it refers to outlives it; as a parameter it may be a temporary. (std::function_ref is C++26.)
template <typename Signature>
class FunctionRef;

template <typename Result, typename... Args>
class FunctionRef<Result(Args...)> {
 public:
  template <typename Callable>
  requires(!std::same_as<std::remove_cvref_t<Callable>, FunctionRef> &&
           std::is_object_v<std::remove_reference_t<Callable>> &&
           std::is_invocable_r_v<Result, Callable&, Args...>)
      FunctionRef(
          Callable&& callable)  // NOLINT(google-explicit-constructor, bugprone-forwarding-reference-overload)
      : callable_(const_cast<void*>(static_cast<const void*>(std::addressof(callable)))),
        call_([](void* at, Args... args) -> Result {
          return (*static_cast<std::remove_reference_t<Callable>*>(at))(std::forward<Args>(args)...);
        }) {}
  Result operator()(Args... args) const { return call_(callable_, std::forward<Args>(args)...); }

 private:
  void* callable_;
  Result (*call_)(void*, Args...);
};

}  // namespace sluice

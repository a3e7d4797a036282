# The cffi extension: the engine and its C functions, generated from native/binding.

from typing import Any

# The generated module has no types of its own; pmemcache.binding is where they are made.
ffi: Any
lib: Any

# One libFuzzer program per file; see `make fuzz`.
file(GLOB fuzz_sources CONFIGURE_DEPENDS fuzz/fuzz_*.c)
foreach(source IN LISTS fuzz_sources)
  get_filename_component(name "${source}" NAME_WE)
  add_executable(${name} "${source}")
  target_include_directories(${name} PRIVATE src)
  target_link_libraries(${name} PRIVATE pmemcache pmemcache_warnings)
endforeach()

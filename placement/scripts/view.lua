#!lua flags=allow-oom
return view('ok')

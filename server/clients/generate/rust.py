def types(known): return ""
def calls(known): return ""

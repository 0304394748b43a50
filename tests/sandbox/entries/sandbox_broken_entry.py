print("importing")
raise ImportError("no such engine")
